(* Minimizers of Model 1 in canonical form.

   Throughout r is the rank, a = r + p and b = r + q; s_1 >= s_2 >= ... >= 0 are written s 0, s 1, ...

   - truncated Z s U V A B: Z = U diag(s) V with orthogonal U and V, s descending, 0 from min(a, b) on, s_r > s_{r+1},
     and A B = Z_r = U diag(s_1, ..., s_r, 0, ...) V, the best approximation of rank r.
   - canonical: then A = U [A1; 0], B = [B1, 0] V with A1 B1 = S = diag(s_1, ..., s_r).
   - form0: in that frame the Hessian falls apart: with dA = U [X1; X2], dB = [Y1, Y2] V, T = diag(s_{r+1}, ...)
     H[dA, dB] = |X1 B1 + A1 Y1|^2 + |X2 B1|^2 + |A1 Y2|^2 - 2 <T, X2 Y2>.
   - kernel0: the kernel are the (A W, -W B); orthogonal0: orthogonal to it are X1 = W B1^T, Y1 = A1^T W, any X2, Y2. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From LoRA Require Import frobenius model1 condition_number.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Diagonal.

Variable F : realFieldType.
Implicit Types (m n : nat) (s : nat -> F).

(* The m x n matrix with s 0, s 1, ... on the diagonal. *)
Definition diagonal m n s : 'M[F]_(m, n) := \matrix_(i, j) (s i *+ (i == j :> nat)).

Lemma diagonal_tr m n s : (diagonal m n s)^T = diagonal n m s.
Proof. by apply/matrixP => i j; rewrite !mxE eq_sym; case: eqP => [->|]. Qed.

Lemma diagonal_square n s : diagonal n n s = diag_mx (\row_i s i).
Proof. by apply/matrixP => i j; rewrite !mxE. Qed.

Lemma diagonal_block m n p q s :
  diagonal (m + p) (m + q) s = block_mx (diagonal m m s) 0 0 (diagonal p q (fun i => s (m + i)%N)) :> 'M[F]_(m + p, m + q).
Proof.
apply/matrixP => i j; rewrite !mxE.
case: splitP => k ik; rewrite !mxE; case: splitP => l jl; rewrite !mxE ik jl //.
- by rewrite ltn_eqF // (leq_trans (ltn_ord k)) // leq_addr.
- by rewrite gtn_eqF // (leq_trans (ltn_ord l)) // leq_addr.
by rewrite eqn_add2l.
Qed.

Lemma diag_form m n (d : 'rV[F]_m) (w : 'M_(m, n)) : <[w, diag_mx d *m w]> = \sum_i d 0 i * |[row i w]|.
Proof.
rewrite innerE; apply: eq_bigr => i _; rewrite innerE big_ord1 mulr_sumr; apply: eq_bigr => j _.
by rewrite mul_diag_mx !mxE mulrCA.
Qed.

Lemma diag_form_le m n (d : 'rV[F]_m) c (w : 'M_(m, n)) :
  (forall i, d 0 i <= c) -> <[w, diag_mx d *m w]> <= c * |[w]|.
Proof.
by move=> le; rewrite diag_form norm_row mulr_sumr; apply: ler_sum => i _; apply: ler_wpmul2r; rewrite ?norm_ge0.
Qed.

Lemma diag_form_ge m n (d : 'rV[F]_m) c (w : 'M_(m, n)) :
  (forall i, c <= d 0 i) -> c * |[w]| <= <[w, diag_mx d *m w]>.
Proof.
by move=> ge; rewrite diag_form norm_row mulr_sumr; apply: ler_sum => i _; apply: ler_wpmul2r; rewrite ?norm_ge0.
Qed.

Lemma diagonal_norm_le m n l s t (w : 'M_(n, l)) :
  (forall i, 0 <= s i <= t) -> |[diagonal m n s *m w]| <= t ^+ 2 * |[w]|.
Proof.
move=> bound; rewrite inner_mull mulmxA diagonal_tr.
have -> : diagonal n m s *m diagonal m n s = diag_mx (\row_j (s j ^+ 2 *+ (j < m)%N)).
  apply/matrixP => i j; rewrite !mxE.
  have [lt_im|le_mi] := boolP (i < m)%N.
    rewrite (bigD1 (Ordinal lt_im)) //= big1 ?addr0 => [|k /negbTE ne]; last first.
      by rewrite !mxE [i == k :> nat]eq_sym (_ : (k == i :> nat) = false) ?mulr0n ?mul0r // -ne.
    rewrite !mxE /= eqxx mulr1n -(inj_eq val_inj) /=.
    by case: eqP => _; rewrite ?mulr0n ?mulr0 ?lt_im ?mulr1n ?expr2.
  rewrite big1 ?mul0rn // => k _; rewrite !mxE (_ : (i == k :> nat) = false) ?mul0r //.
  by apply/negbTE; apply: contra le_mi => /eqP->.
apply: diag_form_le => j; rewrite mxE; have /andP[s_ge0 s_le] := bound j.
have t_ge0 := le_trans s_ge0 s_le.
case: (j < m)%N; last by rewrite mulr0n exprn_ge0.
by rewrite mulr1n; apply: ler_expn2r; rewrite ?nnegrE.
Qed.

End Diagonal.

Lemma descends (F : realFieldType) (s : nat -> F) i j : (forall i, s i.+1 <= s i) -> (i <= j)%N -> s j <= s i.
Proof.
move=> step /subnK <-; elim: (j - i)%N => [|n IH] //; exact: le_trans (step _) IH.
Qed.


Section Canonical.

(* Z = diag(S, T), A = [A1; 0], B = [B1, 0] with A1 B1 = S. *)

Variables (F : realFieldType) (r p q : nat) (s : nat -> F) (A1 B1 : 'M[F]_r).
Hypotheses (step : forall i, s i.+1 <= s i) (s_ge0 : forall i, 0 <= s i) (s_gap : s r < s r.-1).
Hypothesis AB : A1 *m B1 = diagonal r r s.

Let S := diagonal r r s : 'M[F]_r.
Let T := diagonal p q (fun i => s (r + i)) : 'M[F]_(p, q).
Let Z := block_mx S 0 0 T.
Let A := col_mx A1 0 : 'M_(r + p, r).
Let B := row_mx B1 0 : 'M_(r, r + q).

Lemma r_gt0 : (0 < r)%N. Proof. by move: s_gap; case: r => // /=; rewrite ltxx. Qed.
Lemma sr_gt0 : 0 < s r.-1. Proof. exact: le_lt_trans (s_ge0 _) s_gap. Qed.

Lemma s_ge_sr (i : 'I_r) : s r.-1 <= s i.
Proof. by apply: descends => //; rewrite -ltnS prednK ?r_gt0. Qed.

Lemma s_gt0 (i : 'I_r) : 0 < s i. Proof. exact: lt_le_trans sr_gt0 (s_ge_sr i). Qed.

Lemma S_unit : S \in unitmx.
Proof.
rewrite /S diagonal_square unitmxE unitfE det_diag; apply/prodf_neq0 => i _.
by rewrite mxE gt_eqF ?s_gt0.
Qed.

Lemma A1_unit : A1 \in unitmx.
Proof. by move: S_unit; rewrite /S -AB unitmx_mul => /andP[]. Qed.

Lemma B1_unit : B1 \in unitmx.
Proof. by move: S_unit; rewrite /S -AB unitmx_mul => /andP[]. Qed.

Lemma B1A1 : B1 *m invmx S *m A1 = 1%:M.
Proof. by apply: mulmx1C; rewrite mulmxA AB (mulmxV S_unit). Qed.


Lemma jacobian0 (X1 : 'M_r) (X2 : 'M_(p, r)) (Y1 : 'M_r) (Y2 : 'M_(r, q)) :
  jacobian A B (col_mx X1 X2) (row_mx Y1 Y2) = block_mx (X1 *m B1 + A1 *m Y1) (A1 *m Y2) (X2 *m B1) 0.
Proof.
by rewrite /jacobian !mul_col_row add_block_mx !mulmx0 !mul0mx !addr0 !add0r.
Qed.

Lemma residual0 : A *m B - Z = block_mx 0 0 0 (- T).
Proof.
rewrite mul_col_row AB !mulmx0 !mul0mx opp_block_mx add_block_mx /S.
by rewrite subrr !oppr0 !add0r.
Qed.

Definition core (X2 : 'M_(p, r)) (Y2 : 'M_(r, q)) : F := |[X2 *m B1]| + |[A1 *m Y2]| - 2%:R * <[T, X2 *m Y2]>.

Lemma form0 (X1 : 'M_r) (X2 : 'M_(p, r)) (Y1 : 'M_r) (Y2 : 'M_(r, q)) :
  form Z A B (col_mx X1 X2) (row_mx Y1 Y2) = |[X1 *m B1 + A1 *m Y1]| + core X2 Y2.
Proof.
rewrite /form jacobian0 residual0 mul_col_row !inner_block !inner0l innerNl /core.
by rewrite !addr0 !add0r mulrN -!addrA; congr (_ + _); rewrite addrCA.
Qed.

Lemma hessianA0 (X1 : 'M_r) (X2 : 'M_(p, r)) (Y1 : 'M_r) (Y2 : 'M_(r, q)) : hessianA Z A B (col_mx X1 X2) (row_mx Y1 Y2) =
  col_mx ((X1 *m B1 + A1 *m Y1) *m B1^T) (X2 *m B1 *m B1^T - T *m Y2^T).
Proof.
rewrite /hessianA jacobian0 residual0 !tr_row_mx !mul_block_col add_col_mx.
by rewrite trmx0 !mulmx0 !mul0mx !addr0 !add0r mulNmx.
Qed.

Lemma hessianB0 (X1 : 'M_r) (X2 : 'M_(p, r)) (Y1 : 'M_r) (Y2 : 'M_(r, q)) : hessianB Z A B (col_mx X1 X2) (row_mx Y1 Y2) =
  row_mx (A1^T *m (X1 *m B1 + A1 *m Y1)) (A1^T *m (A1 *m Y2) - X2^T *m T).
Proof.
rewrite /hessianB jacobian0 residual0 !tr_col_mx !mul_row_block add_row_mx.
by rewrite trmx0 !mulmx0 !mul0mx !addr0 !add0r mulmxN.
Qed.

(* The coupling through T is at most s_{r+1} times the squares. *)

Lemma T_le n (w : 'M_(q, n)) : |[T *m w]| <= s r ^+ 2 * |[w]|.
Proof.
apply: diagonal_norm_le => i; rewrite s_ge0; apply: descends => //; exact: leq_addr.
Qed.

Lemma coupling_weighted c n (X : 'M_(p, n)) (Y : 'M_(n, q)) :
  2%:R * c * <[T, X *m Y]> <= c ^+ 2 * |[X]| + s r ^+ 2 * |[Y]|.
Proof.
rewrite innerC inner_mulr.
apply: le_trans (inner_le_weighted c X (T *m Y^T)) _; rewrite ler_add2l -(inner_tr Y).
exact: T_le.
Qed.

Lemma coupling n (X : 'M_(p, n)) (Y : 'M_(n, q)) : 2%:R * <[T, X *m Y]> <= s r * (|[X]| + |[Y]|).
Proof.
have := s_ge0 r; rewrite le_eqVlt => /orP[/eqP sr0|sr_pos].
  have : |[T *m Y^T]| <= 0 by apply: le_trans (T_le _) _; rewrite -sr0 expr0n mul0r.
  rewrite le_eqVlt ltNge norm_ge0 orbF norm_eq0 => /eqP TY.
  by rewrite innerC inner_mulr TY inner0r mulr0 -sr0 mul0r.
rewrite -(ler_pmul2l sr_pos) mulrA (mulrC (s r) 2%:R) mulrA -expr2 mulrDr; exact: coupling_weighted.
Qed.

(* The second part of the form: with X = X2 B1 and Y = A1 Y2 it is |X|^2 + |Y|^2 - 2 <T, X S^-1 Y>. *)

Lemma invS_le n (Y : 'M[F]_(r, n)) : s r.-1 ^+ 2 * |[invmx S *m Y]| <= |[Y]|.
Proof.
rewrite -{3 4}[Y](mulKVmx S_unit); move: (invmx S *m Y) => W.
rewrite [|[S *m W]|]inner_mull /S mulmxA diagonal_tr diagonal_square mulmx_diag.
by apply: diag_form_ge => i; rewrite !mxE -expr2 ler_expn2r ?nnegrE ?(ltW sr_gt0) ?s_ge0 ?s_ge_sr.
Qed.

Lemma core_ge (X2 : 'M_(p, r)) (Y2 : 'M_(r, q)) :
  (s r.-1 - s r) * (|[X2 *m B1]| + |[A1 *m Y2]|) <= s r.-1 * core X2 Y2.
Proof.
rewrite /core.
have -> : X2 *m Y2 = (X2 *m B1) *m (invmx S *m (A1 *m Y2)).
  by rewrite -!mulmxA (mulmxA B1) (mulmxA (B1 *m _)) B1A1 mul1mx.
move: (X2 *m B1) (A1 *m Y2) => X Y.
have sr_ne0 : s r.-1 != 0 by rewrite gt_eqF ?sr_gt0.
have bound : s r.-1 * (2%:R * <[T, X *m (invmx S *m Y)]>) <= s r * (|[X]| + |[Y]|).
  have -> : s r.-1 * (2%:R * <[T, X *m (invmx S *m Y)]>) = 2%:R * <[T, X *m (s r.-1 *: (invmx S *m Y))]>.
    by rewrite -scalemxAr innerZr mulrCA.
  apply: le_trans (coupling _ _) _; apply: ler_wpmul2l => //; rewrite ler_add2l innerZl innerZr mulrA -expr2.
  exact: invS_le.
rewrite mulrBr mulrBl ler_sub // mulrDr.
Qed.

Lemma core_ge0 (X2 : 'M_(p, r)) (Y2 : 'M_(r, q)) : 0 <= core X2 Y2.
Proof.
rewrite -(pmulr_rge0 _ sr_gt0); apply: le_trans (core_ge _ _).
by rewrite mulr_ge0 ?subr_ge0 ?(ltW s_gap) // addr_ge0 ?norm_ge0.
Qed.

Lemma core_eq0 (X2 : 'M_(p, r)) (Y2 : 'M_(r, q)) : core X2 Y2 = 0 -> X2 = 0 /\ Y2 = 0.
Proof.
move=> zero; have := core_ge X2 Y2; rewrite zero mulr0 pmulr_rle0 ?subr_gt0 //.
rewrite le_eqVlt ltNge addr_ge0 ?norm_ge0 // orbF paddr_eq0 ?norm_ge0 // !norm_eq0 => /andP[/eqP X /eqP Y].
by rewrite -[X2](mulmxK B1_unit) X mul0mx -[Y2](mulKmx A1_unit) Y mulmx0.
Qed.

Lemma form_split (dA : 'M[F]_(r + p, r)) (dB : 'M[F]_(r, r + q)) :
  exists (X1 : 'M_r) (X2 : 'M_(p, r)) (Y1 : 'M_r) (Y2 : 'M_(r, q)), dA = col_mx X1 X2 /\ dB = row_mx Y1 Y2.
Proof. by exists (usubmx dA), (dsubmx dA), (lsubmx dB), (rsubmx dB); rewrite vsubmxK hsubmxK. Qed.

Lemma kernel0 (X1 : 'M_r) (X2 : 'M_(p, r)) (Y1 : 'M_r) (Y2 : 'M_(r, q)) :
  in_kernel Z A B (col_mx X1 X2) (row_mx Y1 Y2) <-> [/\ X1 *m B1 + A1 *m Y1 = 0, X2 = 0 & Y2 = 0].
Proof.
split; last first.
  move=> [N -> ->].
  by rewrite /in_kernel hessianA0 hessianB0 N !(trmx0, mul0mx, mulmx0, subr0, col_mx0, row_mx0).
move=> [zA zB].
have := form_hessian Z A B (col_mx X1 X2) (row_mx Y1 Y2).
rewrite zA zB !inner0r addr0 form0 => /eqP; rewrite paddr_eq0 ?norm_ge0 ?core_ge0 // norm_eq0.
by case/andP => /eqP N /eqP /core_eq0 [].
Qed.

Lemma orthogonal0 (X1 : 'M_r) (X2 : 'M_(p, r)) (Y1 : 'M_r) (Y2 : 'M_(r, q)) :
  orthogonal_to_kernel Z A B (col_mx X1 X2) (row_mx Y1 Y2) <-> exists W, X1 = W *m B1^T /\ Y1 = A1^T *m W.
Proof.
split; last first.
  move=> [W [-> ->]] kA kB.
  have [K1 [K2 [L1 [L2 [-> ->]]]]] := form_split kA kB; case/kernel0 => N -> ->.
  rewrite inner_col inner_row !inner0r !addr0 inner_mulr trmxK [<[A1^T *m W, L1]>]inner_mull trmxK -innerDr.
  by rewrite N inner0r.
move=> perp.
have A1T : A1^T \in unitmx by rewrite unitmx_tr A1_unit.
exists (invmx A1^T *m Y1); rewrite (mulKVmx A1T); split=> //.
suff E : A1^T *m X1 = Y1 *m B1^T by rewrite -mulmxA -E (mulKmx A1T).
apply/eqP; rewrite -subr_eq0 -norm_eq0; set D := _ - _.
have ker : in_kernel Z A B (col_mx (A1 *m D) 0) (row_mx (- (D *m B1)) 0).
  by apply/kernel0; split=> //; rewrite mulmxN mulmxA subrr.
have := perp _ _ ker; rewrite inner_col inner_row !inner0r !addr0 innerNr.
by rewrite {3}/D innerBl inner_mull trmxK inner_mulr trmxK => ->.
Qed.

End Canonical.

Section Truncated.

Variables (F : realFieldType) (r p q : nat).

Record truncated (Z : 'M[F]_(r + p, r + q)) (s : nat -> F) U V (A : 'M_(r + p, r)) (B : 'M_(r, r + q)) : Prop :=
  Truncated {
    left_orthogonal : U^T *m U = 1%:M;
    right_orthogonal : V *m V^T = 1%:M;
    descending : forall i, s i.+1 <= s i;
    nonnegative : forall i, 0 <= s i;
    no_more : forall i, (minn (r + p) (r + q) <= i)%N -> s i = 0;
    gap : s r < s r.-1;
    decomposition : Z = U *m diagonal (r + p) (r + q) s *m V;
    product : A *m B = U *m block_mx (diagonal r r s) 0 0 0 *m V }.

Lemma canonical Z s U V A B : truncated Z s U V A B ->
  exists A1 B1 : 'M_r,
    [/\ A1 *m B1 = diagonal r r s, A = U *m col_mx A1 0, B = row_mx B1 0 *m V &
        Z = U *m block_mx (diagonal r r s) 0 0 (diagonal p q (fun i => s (r + i)%N)) *m V].
Proof.
case=> UU VV step s_ge0 _ s_gap -> AB.
have := diagonal_block r r p q s; set D := diagonal _ _ _ => ->.
have : (U^T *m A) *m (B *m V^T) = block_mx (diagonal r r s) 0 0 0.
  by rewrite !mulmxA -(mulmxA _ A) AB !mulmxA UU mul1mx -mulmxA VV mulmx1.
move: (frameA UU A) (frameB VV B); move: (U^T *m A) (B *m V^T) => A' B' -> ->.
have [A1 [A2 [B1 [B2 [-> ->]]]]] := form_split A' B'.
rewrite mul_col_row => /eq_block_mx [A1B1 A1B2 A2B1 _].
have A1u := A1_unit step s_ge0 s_gap A1B1; have B1u := B1_unit step s_ge0 s_gap A1B1.
exists A1, B1; split=> //.
  by rewrite -[A2](mulmxK B1u) A2B1 mul0mx.
by rewrite -[B2](mulKmx A1u) A1B2 mulmx0.
Qed.

Lemma truncated_canonical s (U : 'M[F]_(r + p)) (V : 'M_(r + q)) (A1 B1 : 'M_r) :
  U^T *m U = 1%:M -> V *m V^T = 1%:M -> (forall i, s i.+1 <= s i) -> (forall i, 0 <= s i) ->
  (forall i, (minn (r + p) (r + q) <= i)%N -> s i = 0) -> s r < s r.-1 -> A1 *m B1 = diagonal r r s ->
  truncated (U *m diagonal (r + p) (r + q) s *m V) s U V (U *m col_mx A1 0) (row_mx B1 0 *m V).
Proof.
move=> UU VV step s_ge0 no s_gap A1B1; split=> //.
by rewrite !mulmxA -(mulmxA U) mul_col_row A1B1 !mulmx0 !mul0mx.
Qed.

End Truncated.
