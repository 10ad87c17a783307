(* The thin singular value decomposition W = U S V^T of an a x b matrix of rank r: its uniqueness.

   `thin_svd W U s V`: U^T U = V^T V = 1 (r x r), s >= 0 in descending order, W = U diag(s) V^T.

   - thin_svd_signs: at rank r and distinct singular values two decompositions differ by signs: s' = s,
     U' = U diag(e) and V' = V diag(e), e_i = 1 or -1. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring zify.
From LoRA Require Import frobenius matrices.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Definition thin_svd (F : realFieldType) a b r (W : 'M[F]_(a, b)) (U : 'M_(a, r)) (s : 'rV_r) (V : 'M_(b, r)) :=
  [/\ U^T *m U = 1%:M, V^T *m V = 1%:M, (forall i, 0 <= s 0 i), (forall i j : 'I_r, (i <= j)%N -> s 0 j <= s 0 i)
    & W = U *m diag_mx s *m V^T].

Definition distinct (F : realFieldType) r (s : 'rV[F]_r) := forall i j, s 0 i = s 0 j -> i = j.

Definition signs (F : realFieldType) r (e : 'rV[F]_r) := forall i, e 0 i * e 0 i = 1.

(* A strictly increasing map of a finite ordinal to itself is the identity. *)
Lemma increasing_ge r (f : 'I_r -> 'I_r) :
  (forall i j : 'I_r, (i < j)%N -> (f i < f j)%N) -> forall i : 'I_r, (i <= f i)%N.
Proof.
move=> increasing i; suff: forall n (j : 'I_r), val j = n -> (n <= f j)%N by exact.
elim=> // n IH j jn; have before : (n < r)%N by rewrite (leq_trans _ (ltn_ord j)) //= jn ltnW.
by apply: leq_ltn_trans (increasing (Ordinal before) j _); [apply: IH | rewrite /= jn].
Qed.

Lemma increasing_id r (f : 'I_r -> 'I_r) : (forall i j : 'I_r, (i < j)%N -> (f i < f j)%N) -> forall i, f i = i.
Proof.
move=> increasing i; apply/val_inj/eqP; rewrite eqn_leq (increasing_ge increasing) andbT.
pose g i := rev_ord (f (rev_ord i)).
have g_increasing (j k : 'I_r) : (j < k)%N -> (g j < g k)%N.
  move=> jk; have := increasing (rev_ord k) (rev_ord j).
  by rewrite /=; have := ltn_ord k; have := ltn_ord (f (rev_ord j)); have := ltn_ord (f (rev_ord k)); lia.
have := increasing_ge g_increasing (rev_ord i); rewrite /g rev_ordK /=.
by have := ltn_ord i; have := ltn_ord (f i); lia.
Qed.

Section Uniqueness.

Variables (F : realFieldType) (a b r : nat) (W : 'M[F]_(a, b)).
Variables (U U' : 'M[F]_(a, r)) (V V' : 'M[F]_(b, r)) (s s' : 'rV[F]_r).
Hypotheses (decomposed : thin_svd W U s V) (decomposed' : thin_svd W U' s' V').
Hypotheses (rank_W : \rank W = r) (distinct_s : distinct s).

Lemma thin_svd_positive (P : 'M[F]_(a, r)) (d : 'rV_r) (Q : 'M_(b, r)) : thin_svd W P d Q -> forall i, 0 < d 0 i.
Proof.
case=> _ _ positive _ WE i; rewrite lt_def positive andbT.
have full : \rank (diag_mx d) = r.
  apply/eqP; rewrite eqn_leq rank_leq_row -{1}rank_W WE -mulmxA.
  by rewrite (leq_trans (mxrankM_maxr _ _)) ?mxrankM_maxl.
have : diag_mx d \in unitmx by rewrite -row_full_unit /row_full full.
rewrite unitmxE det_diag unitfE; apply: contraNneq => di0.
by rewrite (bigD1 i) //= di0 mul0r.
Qed.

Let Q := U^T *m U'.

Lemma inverse_diag (d : 'rV[F]_r) : (forall i, 0 < d 0 i) -> exists e, diag_mx d *m diag_mx e = 1%:M.
Proof.
move=> positive; exists (\row_i (d 0 i)^-1); apply/matrixP => i j; rewrite mul_diag_mx !mxE.
by case: eqP => [->|_]; rewrite ?mulr1n ?mulr0n ?mulr0 ?mulfV // gt_eqF.
Qed.

Lemma turned_left : U' = U *m Q.
Proof.
have [_ _ _ _ WE] := decomposed; have [_ VV' _ _ WE'] := decomposed'.
have [UU _ _ _ _] := decomposed.
have [e de] := inverse_diag (thin_svd_positive decomposed').
have U'E : U' = W *m V' *m diag_mx e.
  by rewrite WE' -!mulmxA (mulmxA _ V') VV' mul1mx de mulmx1.
have project : U *m (U^T *m W) = W by rewrite {2}WE WE !mulmxA -(mulmxA U U^T) UU mulmx1.
by rewrite /Q mulmxA {2}U'E !mulmxA -(mulmxA U) project -U'E.
Qed.


End Uniqueness.

Section Signs.

Variables (F : realFieldType) (a b r : nat) (W : 'M[F]_(a, b)).
Variables (U U' : 'M[F]_(a, r)) (V V' : 'M[F]_(b, r)) (s s' : 'rV[F]_r).
Hypotheses (decomposed : thin_svd W U s V) (decomposed' : thin_svd W U' s' V').
Hypotheses (rank_W : \rank W = r) (distinct_s : distinct s).

Let Q := U^T *m U'.

Lemma turn_orthogonal : Q *m Q^T = 1%:M.
Proof.
have [UU _ _ _ _] := decomposed; rewrite /Q trmx_mul trmxK -mulmxA.
by rewrite -(turned_left decomposed' decomposed rank_W) UU.
Qed.

Lemma intertwined i j : s 0 i ^+ 2 * Q i j = Q i j * s' 0 j ^+ 2.
Proof.
have [UU VV _ _ WE] := decomposed; have [UU' VV' _ _ WE'] := decomposed'.
have gram (P : 'M_(a, r)) (d : 'rV_r) (R : 'M_(b, r)) : R^T *m R = 1%:M -> W = P *m diag_mx d *m R^T ->
    W *m W^T = P *m diag_mx d *m diag_mx d *m P^T.
  by move=> RR ->; rewrite !trmx_mul trmxK tr_diag_mx !mulmxA -(mulmxA _ R^T) RR mulmx1.
have : diag_mx s *m diag_mx s *m Q = Q *m diag_mx s' *m diag_mx s'.
  transitivity (U^T *m (W *m W^T) *m U').
    by rewrite (gram _ _ _ VV WE) /Q !mulmxA UU mul1mx.
  by rewrite (gram _ _ _ VV' WE') /Q !mulmxA -(mulmxA _ U'^T) UU' mulmx1.
move/matrixP/(_ i j); rewrite -mulmxA mul_diag_mx mxE mul_diag_mx mxE mul_mx_diag mxE mul_mx_diag mxE.
by rewrite !expr2 !mulrA.
Qed.

Lemma same_value i j : Q i j != 0 -> s 0 i = s' 0 j.
Proof.
move=> Qij; have := intertwined i j; rewrite mulrC => /(mulfI Qij)/eqP.
have [_ _ positive _ _] := decomposed; have [_ _ positive' _ _] := decomposed'.
by rewrite eqr_expn2 // => /eqP.
Qed.

Lemma same_values : s' = s.
Proof.
have nonzero i : exists j, Q i j != 0.
  apply/existsP; apply: contraT => /existsPn zero.
  have := congr1 (fun X : 'M_r => X i i) turn_orthogonal; rewrite !mxE eqxx big1 => [/eqP|j _].
    by rewrite eq_sym oner_eq0.
  by move: (zero j); rewrite negbK => /eqP->; rewrite mul0r.
pose f i := xchoose (nonzero i).
have fE i : s 0 i = s' 0 (f i) by apply: same_value; apply: xchooseP (nonzero i).
have [_ _ _ descending _] := decomposed; have [_ _ _ descending' _] := decomposed'.
have increasing (i j : 'I_r) : (i < j)%N -> (f i < f j)%N.
  move=> ij; rewrite ltnNge; apply/negP => ji.
  have equal : s 0 i = s 0 j by apply: le_anti; rewrite (descending _ _ (ltnW ij)) !fE descending'.
  by move: ij; rewrite (distinct_s equal) ltnn.
by apply/rowP => i; rewrite fE (increasing_id increasing).
Qed.

Theorem thin_svd_signs : exists e, [/\ signs e, s' = s, U' = U *m diag_mx e & V' = V *m diag_mx e].
Proof.
have QE : Q = diag_mx (\row_i Q i i).
  apply/matrixP => i j; rewrite [RHS]mxE [X in _ = X *+ _]mxE; have [->|ij] := eqVneq i j; rewrite ?mulr1n // mulr0n.
  by apply/eqP; apply: contraTT ij => Qij; rewrite negbK; apply/eqP/distinct_s; rewrite (same_value Qij) same_values.
have Q_sym : Q^T = Q by rewrite QE tr_diag_mx.
have Q_comm : Q *m diag_mx s = diag_mx s *m Q by rewrite QE diag_mxC.
have U'E : U' = U *m Q := turned_left decomposed decomposed' rank_W.
exists (\row_i Q i i); rewrite -QE; split=> //; first 2 last.
- have [UU _ _ _ WE] := decomposed; have [UU' _ _ _ WE'] := decomposed'.
  have [e de] := inverse_diag (thin_svd_positive rank_W decomposed).
  apply: trmx_inj; rewrite trmx_mul Q_sym -[LHS]mul1mx -[RHS]mul1mx -(mulmx1C de) -!(mulmxA (diag_mx e)).
  congr (_ *m _).
  transitivity (U'^T *m W); first by rewrite WE' same_values !mulmxA UU' mul1mx.
  by rewrite U'E trmx_mul Q_sym WE -(mulmxA U) mulmxA -(mulmxA Q) UU mulmx1 mulmxA Q_comm -mulmxA.
- move=> i; have := congr1 (fun X : 'M_r => X i i) turn_orthogonal.
  by rewrite QE tr_diag_mx mulmx_diag !mxE eqxx mulr1n.
- exact: same_values.
Qed.

End Signs.
