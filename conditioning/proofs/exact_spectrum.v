(* The exact spectrum of Model 1's Hessian at every minimizer, with multiplicities.

   s_1 >= s_2 >= ... are the singular values of Z, k = min(a, b), a = r + p, b = r + q.

   - hessian_matrix Z A B: the matrix that takes the entries of (dA, dB) to those of H(dA, dB), of size ar + rb.
   - block A B t = [[B B^T, -t I], [-t I, A^T A]].
   - exact_spectrum: with A^T A = G diag(alpha) G^T and B B^T = K diag(beta) K^T, the polynomial det(x I - H) is
       x^(r^2)  prod_ij (x - (alpha_i + beta_j))  prod_(l = r+1..k) det(x I - block A B s_l)
       det(x I - B B^T)^(a - k)  det(x I - A^T A)^(b - k).

   The proof has an orthogonal basis of eigenvectors. With A = U [A1; 0], B = [B1, 0] V, and g_i, k_j the columns of G
   and K, they are (dA, dB) = (U [X1; X2], [Y1, Y2] V) with
   - X1 = A1 g_i k_j^T, Y1 = -g_i k_j^T B1, the kernel;
   - X1 = beta_j A1 g_i k_j^T, Y1 = alpha_i g_i k_j^T B1, for alpha_i + beta_j;
   - row l of X2 and column l of Y2 from an eigenvector of a block, or one of them where a or b is larger. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From LoRA Require Import frobenius model1 condition_number minimizers eigenbasis.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section HessianMatrix.

Variables (F : realFieldType) (a b r : nat) (Z : 'M[F]_(a, b)) (A : 'M[F]_(a, r)) (B : 'M[F]_(r, b)).

(* The entries of (dA, dB) in a row, and the matrix of the Hessian in these. *)
Definition entries (dA : 'M[F]_(a, r)) (dB : 'M[F]_(r, b)) : 'rV_(a * r + r * b) := row_mx (mxvec dA) (mxvec dB).

Definition hessian_row (d : 'rV[F]_(a * r + r * b)) : 'rV_(a * r + r * b) :=
  entries (hessianA Z A B (vec_mx (lsubmx d)) (vec_mx (rsubmx d)))
          (hessianB Z A B (vec_mx (lsubmx d)) (vec_mx (rsubmx d))).

Definition hessian_matrix : 'M[F]_(a * r + r * b) := lin1_mx hessian_row.

Lemma entriesP c (dA dA' : 'M[F]_(a, r)) (dB dB' : 'M[F]_(r, b)) :
  entries (c *: dA + dA') (c *: dB + dB') = c *: entries dA dB + entries dA' dB'.
Proof. by rewrite /entries !linearP scale_row_mx add_row_mx. Qed.

Lemma hessian_row_linear : linear hessian_row.
Proof.
move=> c d d'; rewrite /hessian_row -entriesP !linearP /=.
move: (vec_mx _) (vec_mx _) (vec_mx _) (vec_mx _) => dA dA' dB dB'.
rewrite /hessianA /hessianB /jacobian; congr entries.
  rewrite !(mulmxDl, mulmxDr, linearP) /= -!(scalemxAl, scalemxAr) !scalerDr.
  by rewrite !addrA [LHS](ACl (1 * 3 * 5 * 7 * 2 * 4 * 6 * 8)).
rewrite !(mulmxDl, mulmxDr, linearP) /= -!(scalemxAl, scalemxAr) !scalerDr.
by rewrite !addrA [LHS](ACl (1 * 3 * 5 * 7 * 2 * 4 * 6 * 8)).
Qed.

Lemma hessian_matrixE dA dB :
  entries dA dB *m hessian_matrix = entries (hessianA Z A B dA dB) (hessianB Z A B dA dB).
Proof.
pose H : {linear 'rV[F]_(a * r + r * b) -> 'rV_(a * r + r * b)} := Linear hessian_row_linear.
by rewrite -[hessian_matrix]/(lin1_mx H) mul_rV_lin1 /= /hessian_row /entries row_mxKl row_mxKr !mxvecK.
Qed.

Lemma inner_mxvec m n (X Y : 'M[F]_(m, n)) : <[mxvec X, mxvec Y]> = <[X, Y]>.
Proof.
rewrite !innerE big_ord1 (reindex _ (curry_mxvec_bij _ _)) /= pair_bigA /=.
by apply: eq_bigr => -[i j] _; rewrite !mxvecE.
Qed.

Lemma inner_entries dA dB dA' dB' : <[entries dA dB, entries dA' dB']> = <[dA, dA']> + <[dB, dB']>.
Proof. by rewrite inner_row !inner_mxvec. Qed.

End HessianMatrix.

(* The block of a discarded singular value t. *)
Definition block (F : realFieldType) a b r (A : 'M[F]_(a, r)) (B : 'M[F]_(r, b)) (t : F) : 'M[F]_(r + r) :=
  block_mx (B *m B^T) (- t%:M) (- t%:M) (A^T *m A).

Section Eigenvectors.

Variables (F : realFieldType) (r p q : nat) (s : nat -> F) (U : 'M[F]_(r + p)) (V : 'M[F]_(r + q)) (A1 B1 : 'M[F]_r).
Hypotheses (UU : U^T *m U = 1%:M) (VV : V *m V^T = 1%:M).
Hypothesis AB : A1 *m B1 = diagonal r r s.
Hypotheses (A1u : A1 \in unitmx) (B1u : B1 \in unitmx).

Let T := diagonal p q (fun i => s (r + i)%N) : 'M[F]_(p, q).
Let Z := U *m block_mx (diagonal r r s) 0 0 T *m V.
Let A := U *m col_mx A1 0.
Let B := row_mx B1 0 *m V.

Lemma gram_A : A^T *m A = A1^T *m A1.
Proof. by rewrite /A trmx_mul -mulmxA (mulmxA U^T) UU mul1mx tr_col_mx mul_row_col mulmx0 addr0. Qed.

Lemma gram_B : B *m B^T = B1 *m B1^T.
Proof. by rewrite /B trmx_mul -mulmxA (mulmxA V) VV mul1mx tr_row_mx mul_row_col mul0mx addr0. Qed.

Definition direction (X1 : 'M_r) (X2 : 'M_(p, r)) (Y1 : 'M_r) (Y2 : 'M_(r, q)) :=
  entries (U *m col_mx X1 X2) (row_mx Y1 Y2 *m V).

Lemma inner_direction X1 X2 Y1 Y2 X1' X2' Y1' Y2' : <[direction X1 X2 Y1 Y2, direction X1' X2' Y1' Y2']> =
  <[X1, X1']> + <[Y1, Y1']> + (<[X2, X2']> + <[Y2, Y2']>).
Proof. by rewrite inner_entries inner_orthol // inner_orthor // inner_col inner_row addrACA. Qed.

Lemma scale_direction c X1 X2 Y1 Y2 :
  c *: direction X1 X2 Y1 Y2 = direction (c *: X1) (c *: X2) (c *: Y1) (c *: Y2).
Proof.
rewrite -[LHS]addr0 -[in LHS](_ : entries 0 0 = 0); last by rewrite /entries !linear0 row_mx0.
by rewrite -entriesP !addr0 /direction scalemxAr scale_col_mx scalemxAl scale_row_mx.
Qed.

Lemma direction_hessian X1 X2 Y1 Y2 : direction X1 X2 Y1 Y2 *m hessian_matrix Z A B =
  direction ((X1 *m B1 + A1 *m Y1) *m B1^T) (X2 *m B1 *m B1^T - T *m Y2^T)
            (A1^T *m (X1 *m B1 + A1 *m Y1)) (A1^T *m (A1 *m Y2) - X2^T *m T).
Proof.
by rewrite /direction hessian_matrixE hessianA_frame // hessianB_frame // (hessianA0 AB) (hessianB0 AB).
Qed.

(* The pairs of a row of X2 and a column of Y2 that T couples. *)

Definition unit m n : 'cV[F]_m := \col_i (i == n :> nat)%:R.

Lemma unit0 m n : (m <= n)%N -> unit m n = 0.
Proof. by move=> le; apply/colP => i; rewrite !mxE ltn_eqF // (leq_trans (ltn_ord i)). Qed.

Lemma inner_unit m n l : <[unit m n, unit m l]> = ((n == l) && (n < m)%N)%:R.
Proof.
have [lt|ge] := boolP (n < m)%N; last by rewrite andbF unit0 ?inner0l // leqNgt.
rewrite andbT innerE (bigD1 (Ordinal lt)) //= big_ord1 !mxE eqxx mul1r big1 ?addr0 // => i /negbTE ne.
by rewrite big_ord1 !mxE (_ : (i == n :> nat) = false) ?mul0r // -ne.
Qed.

Lemma diagonal_unit m l (t : nat -> F) n : (n < l)%N -> diagonal m l t *m unit l n = t n *: unit m n.
Proof.
move=> lt; apply/colP => i; rewrite !mxE (bigD1 (Ordinal lt)) //= !mxE eqxx mulr1 big1 ?addr0 => [|j /negbTE ne].
  by case: eqP => [->|_]; rewrite ?mulr1n ?mulr1 ?mulr0.
by rewrite !mxE (_ : (j == n :> nat) = false) ?mulr0 // -ne.
Qed.

Definition tail n (x y : 'cV[F]_r) := direction 0 (unit p n *m x^T) 0 (y *m (unit q n)^T).

Lemma inner_tail n x y n' x' y' :
  <[tail n x y, tail n' x' y']> = (n == n')%:R * ((n < p)%N%:R * <[x, x']> + (n < q)%N%:R * <[y, y']>).
Proof.
rewrite inner_direction !inner0l !add0r !inner_outer !inner_unit.
by case: (n == n'); rewrite ?mul1r ?mul0r ?mulr0 ?addr0 // [_ * (n < q)%N%:R]mulrC.
Qed.

Lemma gram_B_tr (x : 'cV_r) : x^T *m B1 *m B1^T = (B *m B^T *m x)^T.
Proof. by rewrite gram_B !trmx_mul trmxK mulmxA. Qed.

Lemma tail_eigen n c x y eigenvalue : T *m unit q n = c *: unit p n -> T^T *m unit p n = c *: unit q n ->
  block A B c *m col_mx x y = eigenvalue *: col_mx x y ->
  tail n x y *m hessian_matrix Z A B = eigenvalue *: tail n x y.
Proof.
move=> Tq Tp; rewrite /block mul_block_col scale_col_mx !mulNmx !mul_scalar_mx => /eq_col_mx [ex ey].
rewrite direction_hessian scale_direction !(mul0mx, mulmx0, addr0, scaler0); congr direction.
  rewrite trmx_mul trmxK mulmxA Tq -!(mulmxA (unit p n)) gram_B_tr -scalemxAl scalemxAr -mulmxBr scalemxAr.
  by congr (_ *m _); rewrite -!linearZ -ex linearB.
have -> : (unit p n *m x^T)^T *m T = c *: (x *m (unit q n)^T).
  rewrite trmx_mul trmxK -mulmxA [(unit p n)^T *m T](_ : _ = (T^T *m unit p n)^T); last by rewrite trmx_mul trmxK.
  by rewrite Tp linearZ /= scalemxAr.
by rewrite !mulmxA -gram_A !scalemxAl -mulmxBl addrC ey.
Qed.

(* The first r rows and columns, given eigenvectors of the Gram matrices. *)

Variables (G K : 'M[F]_r) (alpha beta : 'rV[F]_r).
Hypotheses (diagonal_A : diagonalized (A^T *m A) G alpha) (diagonal_B : diagonalized (B *m B^T) K beta).

Let E i j := col i G *m (col j K)^T.

Lemma alphaE i j : A1^T *m (A1 *m E i j) = alpha 0 i *: E i j.
Proof. by rewrite /E !mulmxA -gram_A (diagonalized_col i diagonal_A) scalemxAl. Qed.

Lemma betaE i j : E i j *m B1 *m B1^T = beta 0 j *: E i j.
Proof.
by rewrite /E -!(mulmxA (col i G)) gram_B_tr (diagonalized_col j diagonal_B) linearZ /= scalemxAr.
Qed.

Lemma inner_E i j i' j' : <[E i j, E i' j']> = ((i == i') && (j == j'))%:R.
Proof. by rewrite inner_outer !inner_cols ?(proj1 diagonal_A) ?(proj1 diagonal_B) // -natrM mulnb. Qed.

Definition core_direction x y i j := direction (x *: (A1 *m E i j)) 0 (y *: (E i j *m B1)) 0.

Lemma inner_core x y i j x' y' i' j' : <[core_direction x y i j, core_direction x' y' i' j']> =
  ((i == i') && (j == j'))%:R * (x * x' * alpha 0 i + y * y' * beta 0 j).
Proof.
have onA : <[A1 *m E i j, A1 *m E i' j']> = alpha 0 i * ((i == i') && (j == j'))%:R.
  by rewrite innerC inner_mull alphaE innerZr innerC inner_E.
have onB : <[E i j *m B1, E i' j' *m B1]> = beta 0 j * ((i == i') && (j == j'))%:R.
  by rewrite innerC inner_mulr betaE innerZr innerC inner_E.
rewrite inner_direction !inner0l !addr0 !innerZl !innerZr onA onB.
by move: (_ && _)%:R => e; ring.
Qed.

Lemma core_eigen x y i j : core_direction x y i j *m hessian_matrix Z A B =
  core_direction ((x + y) * beta 0 j) ((x + y) * alpha 0 i) i j.
Proof.
rewrite direction_hessian.
have -> : x *: (A1 *m E i j) *m B1 + A1 *m (y *: (E i j *m B1)) = (x + y) *: (A1 *m (E i j *m B1)).
  by rewrite -scalemxAl -scalemxAr -(mulmxA A1) scalerDl.
rewrite !(mul0mx, mulmx0, trmx0, subr0); congr direction.
  by rewrite -scalemxAl -(mulmxA A1) betaE -scalemxAr scalerA.
by rewrite -scalemxAr (mulmxA A1 (E i j)) (mulmxA A1^T) alphaE -scalemxAl scalerA.
Qed.

Lemma scale_core c x y i j : c *: core_direction x y i j = core_direction (c * x) (c * y) i j.
Proof. by rewrite scale_direction !scaler0 !scalerA. Qed.

Lemma alpha_gt0 i : 0 < alpha 0 i.
Proof.
have [GG _] := diagonal_A; have := inner_cols i i GG; rewrite eqxx => g.
have : 0 < |[A1 *m col i G]|.
  rewrite norm_gt0; apply/eqP => zero; move: g; rewrite -[col i G](mulKmx A1u) zero mulmx0 inner0l.
  by move/eqP; rewrite eq_sym oner_eq0.
by rewrite inner_mull mulmxA -gram_A (diagonalized_col i diagonal_A) innerZr g mulr1.
Qed.

Lemma beta_gt0 j : 0 < beta 0 j.
Proof.
have [KK _] := diagonal_B; have := inner_cols j j KK; rewrite eqxx => k.
have B1Tu : B1^T \in unitmx by rewrite unitmx_tr.
have : 0 < |[B1^T *m col j K]|.
  rewrite norm_gt0; apply/eqP => zero; move: k; rewrite -[col j K](mulKmx B1Tu) zero mulmx0 inner0l.
  by move/eqP; rewrite eq_sym oner_eq0.
by rewrite inner_mull mulmxA trmxK -gram_B (diagonalized_col j diagonal_B) innerZr k mulr1.
Qed.

(* All eigenvectors. *)

Notation m := (minn p q).
Variables (Q : 'I_m -> 'M[F]_(r + r)) (lambda : 'I_m -> 'rV[F]_(r + r)).
Hypothesis diagonal_blocks : forall l : 'I_m, diagonalized
  (block A B (s (r + l))) (Q l) (lambda l).

Notation indices :=
  ((('I_r * 'I_r) + ('I_r * 'I_r)) + (('I_m * 'I_(r + r)) + (('I_(p - m) * 'I_r) + ('I_(q - m) * 'I_r))))%type.

Definition eigenvector (t : indices) :=
  match t with
  | inl (inl (i, j)) => core_direction 1 (-1) i j
  | inl (inr (i, j)) => core_direction (beta 0 j) (alpha 0 i) i j
  | inr (inl (l, c)) => tail l (usubmx (col c (Q l))) (dsubmx (col c (Q l)))
  | inr (inr (inl (l, j))) => tail (m + l) (col j K) 0
  | inr (inr (inr (l, i))) => tail (m + l) 0 (col i G)
  end.

Definition eigenvalue (t : indices) : F :=
  match t with
  | inl (inl _) => 0
  | inl (inr (i, j)) => alpha 0 i + beta 0 j
  | inr (inl (l, c)) => lambda l 0 c
  | inr (inr (inl (_, j))) => beta 0 j
  | inr (inr (inr (_, i))) => alpha 0 i
  end.

Lemma card_indices : #|{: indices}| = ((r + p) * r + r * (r + q))%N.
Proof.
rewrite !card_sum !card_prod !card_ord.
rewrite !mulnDl !mulnDr [(r * q)%N]mulnC.
have -> : (p * r = m * r + (p - m) * r)%N by rewrite -mulnDl subnKC ?geq_minl.
have -> : (q * r = m * r + (q - m) * r)%N by rewrite -mulnDl subnKC ?geq_minr.
by rewrite !addnA [LHS](ACl (1 * 3 * 5 * 2 * 4 * 6)).
Qed.

Lemma inner_core_tail x y i j n u v : <[core_direction x y i j, tail n u v]> = 0.
Proof. by rewrite inner_direction !inner0l !inner0r !addr0. Qed.

Lemma inner_tail_core x y i j n u v : <[tail n u v, core_direction x y i j]> = 0.
Proof. by rewrite innerC inner_core_tail. Qed.

Lemma lt_rest_p (l : 'I_(p - m)) : (m + l < p)%N.
Proof. by rewrite -ltn_subRL. Qed.

Lemma lt_rest_q (l : 'I_(q - m)) : (m + l < q)%N.
Proof. by rewrite -ltn_subRL. Qed.

Lemma rest_p n : (m + n < p -> q <= m + n)%N.
Proof. by rewrite /minn; case: (ltnP p q) => [_ | _ _]; rewrite ?leq_addr // ltnNge leq_addr. Qed.

Lemma rest_q n : (m + n < q -> p <= m + n)%N.
Proof. by rewrite /minn; case: (ltnP p q) => [_ _ | _]; rewrite ?leq_addr // ltnNge leq_addr. Qed.

Lemma lt_m (l : 'I_m) : ((l < p)%N * (l < q)%N)%type.
Proof. by have := ltn_ord l; rewrite leq_min => /andP[-> ->]. Qed.

Lemma inner_halves (x y : 'cV[F]_(r + r)) : <[usubmx x, usubmx y]> + <[dsubmx x, dsubmx y]> = <[x, y]>.
Proof. by rewrite -inner_col !vsubmxK. Qed.

Lemma orthogonal_eigenvectors t u : t != u -> <[eigenvector t, eigenvector u]> = 0.
Proof.
case: t u => [[[i j] | [i j]] | [[l c] | [[l j] | [l i]]]] [[[i' j'] | [i' j']] | [[l' c'] | [[l' j'] | [l' i']]]] /=;
  rewrite ?(inner_core_tail, inner_tail_core, inner_core, inner_tail) // => ne.
- by rewrite (negbTE (ne : ~~ ((i == i') && (j == j')))) mul0r.
- by case: andP => [[/eqP<- /eqP<-] | _]; [ring | rewrite mul0r].
- by move: (_ && _)%:R => e; ring.
- by rewrite (negbTE (ne : ~~ ((i == i') && (j == j')))) mul0r.
- have {}ne : ~~ ((l == l') && (c == c')) := ne.
  case: eqP => [/ord_inj same | _]; last by rewrite mul0r.
  move: ne; rewrite -same eqxx !lt_m !mul1r inner_halves inner_cols ?(proj1 (diagonal_blocks l)) //.
  by move=> /= /negbTE->.
- by rewrite ltn_eqF ?mul0r // ltn_addr.
- by rewrite ltn_eqF ?mul0r // ltn_addr.
- by rewrite gtn_eqF ?mul0r // ltn_addr.
- rewrite inner0l mulr0 addr0 eqn_add2l inner_cols ?(proj1 diagonal_B) // mulrCA -natrM mulnb.
  by rewrite (negbTE (ne : ~~ ((l == l' :> nat) && (j == j')))) mulr0.
- by rewrite !(inner0l, inner0r, mulr0, addr0).
- by rewrite gtn_eqF ?mul0r // ltn_addr.
- by rewrite !(inner0l, inner0r, mulr0, addr0).
rewrite inner0l mulr0 add0r eqn_add2l inner_cols ?(proj1 diagonal_A) // mulrCA -natrM mulnb.
by rewrite (negbTE (ne : ~~ ((l == l' :> nat) && (i == i')))) mulr0.
Qed.

Lemma nonzero_eigenvectors t : 0 < |[eigenvector t]|.
Proof.
case: t => [[[i j] | [i j]] | [[l c] | [[l j] | [l i]]]] /=; rewrite ?(inner_core, inner_tail) !eqxx mul1r.
- by rewrite !(mul1r, mulN1r, opprK) addr_gt0 ?alpha_gt0 ?beta_gt0.
- by rewrite addr_gt0 // !mulr_gt0 ?alpha_gt0 ?beta_gt0.
- by rewrite !lt_m !mul1r inner_halves inner_cols ?(proj1 (diagonal_blocks l)) // eqxx ltr01.
- by rewrite lt_rest_p inner0l mulr0 addr0 mul1r inner_cols ?(proj1 diagonal_B) // eqxx ltr01.
by rewrite lt_rest_q inner0l mulr0 add0r mul1r inner_cols ?(proj1 diagonal_A) // eqxx ltr01.
Qed.

Lemma eigenvectorP t : eigenvector t *m hessian_matrix Z A B = eigenvalue t *: eigenvector t.
Proof.
case: t => [[[i j] | [i j]] | [[l c] | [[l j] | [l i]]]] /=.
- rewrite core_eigen subrr !mul0r scale0r /core_direction !scale0r.
  by rewrite /direction col_mx0 row_mx0 mulmx0 mul0mx /entries !linear0 row_mx0.
- by rewrite core_eigen scale_core [beta 0 j + _]addrC.
- apply: (@tail_eigen _ (s (r + l)%N)).
  + by rewrite diagonal_unit // lt_m.
  + by rewrite diagonal_tr diagonal_unit // lt_m.
  by rewrite vsubmxK (diagonalized_col c (diagonal_blocks l)).
- have q_le := rest_p (lt_rest_p l).
  apply: (@tail_eigen _ 0); rewrite ?(unit0 q_le) ?scale0r ?scaler0 ?mulmx0 //.
    by rewrite diagonal_tr diagonal_unit ?lt_rest_p // unit0 // scaler0.
  rewrite /block mul_block_col !mulNmx !mul_scalar_mx !scale0r oppr0 !mulmx0 !addr0 scale_col_mx scaler0.
  by rewrite (diagonalized_col j diagonal_B).
have p_le := rest_q (lt_rest_q l).
apply: (@tail_eigen _ 0); rewrite ?(unit0 p_le) ?scale0r ?scaler0 ?mulmx0 //.
  by rewrite diagonal_unit ?lt_rest_q // unit0 // scaler0.
rewrite /block mul_block_col !mulNmx !mul_scalar_mx !scale0r oppr0 !mulmx0 !add0r scale_col_mx scaler0.
by rewrite (diagonalized_col i diagonal_A).
Qed.

Lemma char_poly_eigenvalues : char_poly (hessian_matrix Z A B) = \prod_t ('X - (eigenvalue t)%:P).
Proof.
exact: eigenbasis card_indices orthogonal_eigenvectors nonzero_eigenvectors eigenvectorP.
Qed.

Lemma char_poly_frame : char_poly (hessian_matrix Z A B) =
  'X ^+ (r * r) * (\prod_i \prod_j ('X - (alpha 0 i + beta 0 j)%:P))
  * (\prod_(l < m) char_poly (block A B (s (r + l))))
  * char_poly (B *m B^T) ^+ (p - m) * char_poly (A^T *m A) ^+ (q - m).
Proof.
rewrite char_poly_eigenvalues !big_sumType /= -!mulrA; congr (_ * _).
  by rewrite prodr_const card_prod !card_ord subr0.
have power n (P : {poly F}) : P ^+ n = \prod_(i < n) P by rewrite prodr_const card_ord.
rewrite (diagonalized_char_poly diagonal_A) (diagonalized_char_poly diagonal_B) !power.
rewrite [\prod_(l < m) _](eq_bigr _ (fun l _ => diagonalized_char_poly (diagonal_blocks l))) !pair_bigA /=.
by congr (_ * (_ * (_ * _))); apply: eq_bigr => -[].
Qed.

End Eigenvectors.

Theorem exact_spectrum (F : realFieldType) (r p q : nat) (Z : 'M[F]_(r + p, r + q)) (s : nat -> F) U V
    (A : 'M_(r + p, r)) (B : 'M_(r, r + q)) (G K : 'M_r) (alpha beta : 'rV_r) :
  truncated Z s U V A B ->
  diagonalized (A^T *m A) G alpha -> diagonalized (B *m B^T) K beta ->
  (forall l, (r <= l < minn (r + p) (r + q))%N -> exists Q lambda, diagonalized (block A B (s l)) Q lambda) ->
  char_poly (hessian_matrix Z A B) =
    'X ^+ (r * r) * (\prod_i \prod_j ('X - (alpha 0 i + beta 0 j)%:P))
    * (\prod_(r <= l < minn (r + p) (r + q)) char_poly (block A B (s l)))
    * char_poly (B *m B^T) ^+ (r + p - minn (r + p) (r + q)) * char_poly (A^T *m A) ^+ (r + q - minn (r + p) (r + q)).
Proof.
move=> min; have [A1 [B1 [AB eA eB eZ]]] := canonical min; case: min => UU VV step s_ge0 _ s_gap _ _.
have A1u := A1_unit step s_ge0 s_gap AB; have B1u := B1_unit step s_ge0 s_gap AB.
rewrite -addn_minr !subnDl; subst A B Z => dA dB blocks.
have each (l : 'I_(minn p q)) :
    exists Q lambda, diagonalized (block (U *m col_mx A1 0) (row_mx B1 0 *m V) (s (r + l)%N)) Q lambda.
  by apply: blocks; rewrite leq_addr ltn_add2l ltn_ord.
have [Q /fin_all_exists [lambda diagonal_blocks]] := fin_all_exists each.
rewrite (char_poly_frame UU VV AB A1u B1u dA dB diagonal_blocks).
have -> // (f : nat -> {poly F}) : \prod_(r <= l < r + minn p q) f l = \prod_(l < minn p q) f (r + l)%N.
by rewrite -{1}[r]add0n big_addn addKn big_mkord; apply: eq_bigr => l _; rewrite addnC.
Qed.
