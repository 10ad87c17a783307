(* For r <= 2 and r < min(a, b) balance is the only optimum.

   - balanced_unique: if A^T A and B B^T differ, L / mu > 2 s_1 / (s_r - s_{r+1}) for all valid L and mu, and so does kappa.

   The reason: equality needs |x|^2 + |y|^2 = 2 <x, y> for the test vectors x = A1^T e_i, y = B1 e_i, i = 1 and i = r,
   so x = y there; for r <= 2 these are all columns of A1^T and B1. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From LoRA Require Import frobenius model1 condition_number minimizers optimality.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Theorem balanced_unique (F : realFieldType) r p q (Z : 'M[F]_(r + p, r + q)) s U V A B :
  (r <= 2)%N -> (0 < p)%N -> (0 < q)%N -> truncated Z s U V A B -> A^T *m A != B *m B^T ->
  forall L mu, valid Z A B L mu -> 2%:R * s 0%N / (s r.-1 - s r) < L / mu.
Proof.
move=> r_le2 p_gt0 q_gt0 min unbalanced L mu ok.
have := balanced_optimal p_gt0 q_gt0 min ok; rewrite le_eqVlt => /orP[/eqP eq|//].
case/negP: unbalanced; apply/eqP.
have [A1 [B1 [AB EA EB EZ]]] := canonical min; have [UU VV step s_ge0 _ s_gap _ _] := min.
move: (ok); rewrite EA EB EZ => /(valid_frame UU VV) ok'.
have r_gt0 := r_gt0 s_gap; have last : (r.-1 < r)%N by rewrite prednK.
have L_ge := L_ge step s_ge0 s_gap AB (Ordinal r_gt0) ok'.
have mu_le := mu_le step s_ge0 s_gap AB (Ordinal last) (l := Ordinal p_gt0) (h := Ordinal q_gt0) erefl ok'.
have top := norm_xy AB (Ordinal r_gt0); have far := norm_xy AB (Ordinal last).
pose e (i : 'I_r) : 'cV[F]_r := delta_mx i 0.
have same i : |[A1^T *m e i]| + |[B1 *m e i]| <= 2%:R * s i -> A1^T *m e i = B1 *m e i.
  move=> le; apply/eqP; rewrite -inner_le_eq (inner_xy AB i) eq_le le andbT.
  exact: norm_xy.
have mu_gt0 : 0 < mu by case: ok.
have gap : 0 < s r.-1 - s r by rewrite subr_gt0.
have sr_gt0 := sr_gt0 s_ge0 s_gap.
have s0_gt0 : 0 < s 0%N by apply: lt_le_trans sr_gt0 _; apply: descends.
have eq' : 2%:R * s 0%N * mu = L * (s r.-1 - s r).
  by move/eqP: eq; rewrite eqr_div ?(gt_eqF gap) ?(gt_eqF mu_gt0) // => /eqP.
move: mu_le L_ge top far; rewrite /= addn0; set n := _ + _ => mu_le L_ge top far.
have mu_gap : mu <= s r.-1 - s r.
  rewrite -(@ler_pmul2l _ (2%:R * s r.-1)) ?mulr_gt0 ?ltr0n //; apply: le_trans mu_le.
  by rewrite mulrC ler_pmul2l.
have L_le : L <= 2%:R * s 0%N.
  by rewrite -(ler_pmul2r gap) -eq' ler_pmul2l // mulr_gt0 ?ltr0n.
have gap_mu : s r.-1 - s r <= mu.
  rewrite -(@ler_pmul2l _ (2%:R * s 0%N)) ?mulr_gt0 ?ltr0n // eq' ler_pmul2r //.
  exact: le_trans top L_ge.
have first_same : A1^T *m e (Ordinal r_gt0) = B1 *m e (Ordinal r_gt0) by apply: same; apply: le_trans L_ge L_le.
have last_same : A1^T *m e (Ordinal last) = B1 *m e (Ordinal last).
  apply: same; rewrite -(ler_pmul2l gap) [X in _ <= X]mulrC; apply: le_trans mu_le.
  by apply: ler_wpmul2r => //; rewrite addr_ge0 ?norm_ge0.
have AB1 : A1^T = B1.
  apply/matrixP => i j.
  have : A1^T *m e j = B1 *m e j.
    have := ltn_ord j; rewrite leq_eqVlt => /orP[/eqP jl|jl].
      by rewrite (_ : j = Ordinal last) //; apply: val_inj; exact: (congr1 predn jl).
    rewrite (_ : j = Ordinal r_gt0) //; apply: val_inj => /=.
    by move: (leq_trans jl r_le2); rewrite !ltnS leqn0 => /eqP.
  by rewrite -!colE => /matrixP /(_ i 0); rewrite !mxE.
rewrite !trmx_mul !mulmxA -(mulmxA _ U^T) UU mulmx1 -(mulmxA _ V) VV mulmx1.
by rewrite tr_col_mx tr_row_mx !mul_row_col !(trmx0, mul0mx, mulmx0, addr0) AB1 -AB1 trmxK.
Qed.
