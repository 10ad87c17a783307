(* kappa of a balanced minimizer, A^T A = B B^T, in each of the shapes.

   - balanced_condition_number: kappa = 2 s_1 / (s_r - s_{r+1}) if r < min(a, b), 2 s_1 / s_r if r = min(a, b) and a, b
     differ, s_1 / s_r if r = a = b.
   - balanced_smoothness: L >= 2 s_1 at every minimizer, and 2 s_1 serves as L at a balanced one.

   The reason: A1 A1^T and B1^T B1 are square roots of S^2, and positive semidefinite ones are unique. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From LoRA Require Import frobenius square_roots model1 condition_number minimizers bounds optimality.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

(* C C^T is the positive semidefinite square root of diag(d)^2. *)

Lemma square_root_unique (F : realFieldType) m n (C : 'M[F]_(n, m)) (d : 'rV[F]_n) : (forall i, 0 < d 0 i) ->
  (C *m C^T) *m (C *m C^T) = diag_mx d *m diag_mx d -> C *m C^T = diag_mx d.
Proof.
by move=> d_gt0; apply: psd_root_unique; [apply: gram_psd | apply: diag_psd => i; apply: ltW].
Qed.

Section Balanced.

Variables (F : realFieldType) (r p q : nat) (s : nat -> F) (A1 B1 : 'M[F]_r).
Hypotheses (step : forall i, s i.+1 <= s i) (s_ge0 : forall i, 0 <= s i) (s_gap : s r < s r.-1).
Hypotheses (AB : A1 *m B1 = diagonal r r s) (balanced : A1^T *m A1 = B1 *m B1^T).

Lemma balanced_A : A1 *m A1^T = diagonal r r s.
Proof.
rewrite diagonal_square; apply: square_root_unique => [i|]; first by rewrite mxE s_gt0.
rewrite mulmxA -(mulmxA A1) balanced mulmxA AB -!mulmxA -trmx_mul AB diagonal_tr.
by rewrite diagonal_square.
Qed.

Lemma balanced_B : B1^T *m B1 = diagonal r r s.
Proof.
rewrite -{2}[B1]trmxK diagonal_square; apply: square_root_unique => [i|]; first by rewrite mxE s_gt0.
rewrite trmxK mulmxA -(mulmxA B1^T) -balanced mulmxA -trmx_mul AB -!mulmxA AB diagonal_tr.
by rewrite diagonal_square.
Qed.

Lemma balanced_below_A (v : 'cV_r) : s r.-1 * |[v]| <= |[A1 *m v]|.
Proof.
have Au := A1_unit step s_ge0 s_gap AB.
rewrite -[A1]trmxK; apply: below_tr => [|w]; first by rewrite unitmx_tr.
rewrite inner_mull trmxK mulmxA balanced_A diagonal_square; apply: diag_form_ge => i.
by rewrite mxE s_ge_sr.
Qed.

Lemma balanced_below_B (v : 'cV_r) : s r.-1 * |[v]| <= |[B1^T *m v]|.
Proof.
apply: below_tr => [|w]; first exact: B1_unit step s_ge0 s_gap AB.
by rewrite inner_mull mulmxA balanced_B diagonal_square; apply: diag_form_ge => i; rewrite mxE s_ge_sr.
Qed.

Let s0_gt0 : 0 < s 0%N.
Proof. by apply: lt_le_trans (sr_gt0 s_ge0 s_gap) _; apply: descends. Qed.

Lemma balanced_above_A (v : 'cV_r) : |[A1 *m v]| <= s 0%N * |[v]|.
Proof.
rewrite -[A1]trmxK; apply: above_tr => // w.
by rewrite inner_mull trmxK mulmxA balanced_A diagonal_square; apply: diag_form_le => i; rewrite mxE descends.
Qed.

Lemma balanced_above_B (v : 'cV_r) : |[B1^T *m v]| <= s 0%N * |[v]|.
Proof.
apply: above_tr => // w.
by rewrite inner_mull mulmxA balanced_B diagonal_square; apply: diag_form_le => i; rewrite mxE descends.
Qed.

Let Z := block_mx (diagonal r r s) 0 0 (diagonal p q (fun i => s (r + i)%N)).
Let A := col_mx A1 0 : 'M_(r + p, r).
Let B := row_mx B1 0 : 'M_(r, r + q).

Lemma balanced_smooth dA dB : form Z A B dA dB <= 2%:R * s 0%N * (|[dA]| + |[dB]|).
Proof.
have [X1 [X2 [Y1 [Y2 [-> ->]]]]] := form_split dA dB.
rewrite mulr_natl mulr2n; apply: smooth_above => //; [exact: balanced_above_A | exact: balanced_above_B].
Qed.

Lemma balanced_valid : valid Z A B (2%:R * s 0%N) (s r.-1 - s r).
Proof.
split; [by rewrite subr_gt0 | exact: balanced_smooth |].
apply: convex_below balanced_below_A balanced_below_B _ _ _ => //.
Qed.

Lemma balanced_L_ge L mu : valid Z A B L mu -> 2%:R * s 0%N <= L.
Proof.
move=> ok; pose i := Ordinal (r_gt0 s_gap).
exact: le_trans (norm_xy AB i) (L_ge step s_ge0 s_gap AB i ok).
Qed.

Let last : 'I_r := Ordinal (etrans (congr1 (leq^~ r) (prednK (r_gt0 s_gap))) (leqnn r)).
Let e : 'cV[F]_r := delta_mx last 0.

Lemma norm_root (C : 'M[F]_r) : C^T *m C = diagonal r r s -> |[C *m e]| = s r.-1 /\ |[C^T *m (C *m e)]| = s r.-1 ^+ 2.
Proof.
move=> CC; rewrite inner_mull mulmxA CC (S_e s last) innerZl !innerZr norm_e mulr1.
by split=> //; rewrite -expr2.
Qed.

Lemma balanced_mu_le L mu : (0 < p)%N || (0 < q)%N -> valid Z A B L mu -> mu <= s r.-1.
Proof.
have sr_gt0 := sr_gt0 s_ge0 s_gap.
case/orP=> pos ok; rewrite -(ler_pmul2r sr_gt0) -expr2.
  have [one two] := norm_root balanced_B.
  by have := row_direction step s_ge0 s_gap AB (Ordinal pos) (B1 *m e) ok; rewrite one two.
have := norm_root (C := A1^T); rewrite trmxK => /(_ balanced_A) [one two].
by have := column_direction step s_ge0 s_gap AB (Ordinal pos) (A1^T *m e) ok; rewrite one two.
Qed.

Lemma balanced_square_valid : p = 0%N -> q = 0%N -> valid Z A B (2%:R * s 0%N) (2%:R * s r.-1).
Proof.
move=> p0 q0; have sr_gt0 := sr_gt0 s_ge0 s_gap.
split; [by rewrite mulr_gt0 ?ltr0n | exact: balanced_smooth |].
move=> dA dB; have [X1 [X2 [Y1 [Y2 [-> ->]]]]] := form_split dA dB.
have -> : X2 = 0 by apply/matrixP => i; have := ltn_ord i; rewrite {2}p0.
have -> : Y2 = 0 by apply/matrixP => i j; have := ltn_ord j; rewrite {2}q0.
case/orthogonal0 => // W [-> ->]; rewrite form0 // inner_col inner_row /core.
rewrite !(mul0mx, mulmx0, inner0r, mulr0, subr0, addr0).
apply: le_trans (first_part_ge step s_ge0 s_gap AB W _ balanced_below_A balanced_below_B).
  by rewrite mulr_natl mulr2n.
by rewrite addr_ge0 ?(ltW sr_gt0).
Qed.

Lemma balanced_square_mu_le L mu : valid Z A B L mu -> mu <= 2%:R * s r.-1.
Proof.
have sr_gt0 := sr_gt0 s_ge0 s_gap.
case=> _ _ convex; pose W := e *m e^T.
have := convex (col_mx (W *m B1^T) 0) (row_mx (A1^T *m W) 0).
rewrite form0 // inner_col inner_row /core !(mul0mx, mulmx0, inner0r, mulr0, subr0, addr0).
have WS : W *m diagonal r r s = s r.-1 *: W.
  by rewrite /W -mulmxA -[e^T *m _]trmxK trmx_mul trmxK diagonal_tr (S_e s last) linearZ /= -scalemxAr.
have SW : diagonal r r s *m W = s r.-1 *: W by rewrite /W mulmxA (S_e s last) -scalemxAl.
have normW : |[W]| = 1 by rewrite inner_outer norm_e mulr1.
have -> : |[W *m B1^T]| = s r.-1.
  by rewrite inner_mulr trmxK -mulmxA balanced_B WS innerZr normW mulr1.
have -> : |[A1^T *m W]| = s r.-1.
  by rewrite inner_mull trmxK mulmxA balanced_A SW innerZr normW mulr1.
rewrite -(mulmxA W) balanced_B (mulmxA A1) balanced_A WS SW -scalerDl innerZl innerZr normW mulr1 => le.
rewrite -(@ler_pmul2r _ (s r.-1 + s r.-1)) ?addr_gt0 // mulr_natl mulr2n; apply: le.
by apply/orthogonal0 => //; exists W.
Qed.

End Balanced.

Section BalancedConditionNumber.

Variables (F : realFieldType) (r p q : nat) (Z : 'M[F]_(r + p, r + q)) (s : nat -> F).
Variables (U : 'M[F]_(r + p)) (V : 'M[F]_(r + q)) (A : 'M[F]_(r + p, r)) (B : 'M[F]_(r, r + q)).

Lemma balanced_canonical (A1 B1 : 'M[F]_r) : truncated Z s U V A B -> A^T *m A = B *m B^T ->
  A = U *m col_mx A1 0 -> B = row_mx B1 0 *m V -> A1^T *m A1 = B1 *m B1^T.
Proof.
move=> [UU VV _ _ _ _ _ _] bal EA EB.
move: bal; rewrite EA EB !trmx_mul !mulmxA -(mulmxA _ U^T) UU mulmx1 -(mulmxA _ V) VV mulmx1.
by rewrite tr_col_mx tr_row_mx !mul_row_col !(trmx0, mul0mx, mulmx0, addr0).
Qed.

Theorem balanced_condition_number : truncated Z s U V A B -> A^T *m A = B *m B^T ->
  [/\ (0 < p)%N -> (0 < q)%N -> kappa_is Z A B (2%:R * s 0%N / (s r.-1 - s r)),
      p = 0%N \/ q = 0%N -> (r + p != r + q)%N -> kappa_is Z A B (2%:R * s 0%N / s r.-1) &
      p = 0%N -> q = 0%N -> kappa_is Z A B (s 0%N / s r.-1)].
Proof.
move=> min bal.
have [A1 [B1 [AB EA EB EZ]]] := canonical min.
have [UU VV step s_ge0 no s_gap _ _] := min.
have bal1 := balanced_canonical min bal EA EB.
have sr_gt0 := sr_gt0 s_ge0 s_gap; have s0_ge0 := s_ge0 0%N.
have ok := balanced_valid p q step s_ge0 s_gap AB bal1.
split=> [p_gt0 q_gt0|one ne|p0 q0].
- split; first exact: balanced_optimal p_gt0 q_gt0 min.
  by exists (2%:R * s 0%N), (s r.-1 - s r); split=> //; rewrite EA EB EZ; apply: (valid_frame UU VV _ _ _ _ _).2.
- have sr0 : s r = 0.
    by apply: no; case: one => ->; rewrite addn0 geq_min leqnn ?orbT.
  have some : (0 < p)%N || (0 < q)%N.
    by rewrite !lt0n; case: one ne => ->; rewrite eqn_add2l eqxx ?orbF // eq_sym.
  split=> [L mu okL|]; last first.
    exists (2%:R * s 0%N), (s r.-1); split=> //; rewrite EA EB EZ; apply: (valid_frame UU VV _ _ _ _ _).2.
    by rewrite -[s r.-1]subr0 -sr0.
  have mu_gt0 : 0 < mu by case: okL.
  move: okL; rewrite EA EB EZ => /(valid_frame UU VV) okL.
  have L_ge := balanced_L_ge step s_ge0 s_gap AB okL.
  have mu_le := balanced_mu_le step s_ge0 s_gap AB bal1 some okL.
  rewrite ler_pdivr_mulr // mulrAC ler_pdivl_mulr //; apply: ler_pmul => //; rewrite ?(ltW mu_gt0) //.
  by rewrite mulr_ge0 ?ler0n.
split=> [L mu okL|]; last first.
  exists (2%:R * s 0%N), (2%:R * s r.-1); split; last by rewrite -mulf_div divff ?mul1r // pnatr_eq0.
  rewrite EA EB EZ; apply: (valid_frame UU VV _ _ _ _ _).2.
  exact: balanced_square_valid step s_ge0 s_gap AB bal1 p0 q0.
have mu_gt0 : 0 < mu by case: okL.
move: okL; rewrite EA EB EZ => /(valid_frame UU VV) okL.
have L_ge := balanced_L_ge step s_ge0 s_gap AB okL.
have mu_le := balanced_square_mu_le step s_ge0 s_gap AB bal1 okL.
rewrite ler_pdivr_mulr // mulrAC ler_pdivl_mulr // -(@ler_pmul2l _ 2%:R) ?ltr0n // mulrA mulrCA.
by apply: ler_pmul => //; rewrite ?(ltW mu_gt0) // mulr_ge0 ?ler0n.
Qed.

Theorem balanced_smoothness : truncated Z s U V A B ->
  (forall L, (forall dA dB, form Z A B dA dB <= L * (|[dA]| + |[dB]|)) -> 2%:R * s 0%N <= L) /\
  (A^T *m A = B *m B^T -> forall dA dB, form Z A B dA dB <= 2%:R * s 0%N * (|[dA]| + |[dB]|)).
Proof.
move=> min; have [A1 [B1 [AB EA EB EZ]]] := canonical min.
have [UU VV step s_ge0 _ s_gap _ _] := min; split=> [L smooth|bal dA dB].
  pose i := Ordinal (r_gt0 s_gap); apply: le_trans (norm_xy AB i) _.
  apply: (smooth_ge (p := p) (q := q) step s_ge0 s_gap AB) => dA dB.
  by have := smooth (U *m dA) (dB *m V); rewrite EA EB EZ form_frame // inner_orthol // inner_orthor.
rewrite EA EB EZ (frameA UU dA) (frameB VV dB) form_frame // inner_orthol // inner_orthor //.
by apply: balanced_smooth => //; apply: balanced_canonical min bal EA EB.
Qed.

End BalancedConditionNumber.
