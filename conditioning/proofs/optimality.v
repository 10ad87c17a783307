(* Balance is optimal for r < min(a, b): a = r + p, b = r + q with p, q > 0.

   - balanced_optimal: kappa >= 2 s_1 / (s_r - s_{r+1}) at every minimizer. balance.v: it is just that at balance.

   The test vectors: x = A1^T e_i and y = B1 e_i have <x, y> = s_i, so |x|^2 + |y|^2 >= 2 s_i. For i = 1 the direction
   (e_1 y^T, x e_1^T) shows L >= |x|^2 + |y|^2; for i = r the direction (e_{r+1} x^T, y e_{r+1}^T), orthogonal to the
   kernel, shows mu (|x|^2 + |y|^2) <= 2 s_r (s_r - s_{r+1}). *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From LoRA Require Import frobenius model1 condition_number minimizers.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section TestVectors.

(* In canonical form: x = A1^T e_i and y = B1 e_i have <x, y> = s_i. *)

Variables (F : realFieldType) (r p q : nat) (s : nat -> F) (A1 B1 : 'M[F]_r).
Hypotheses (step : forall i, s i.+1 <= s i) (s_ge0 : forall i, 0 <= s i) (s_gap : s r < s r.-1).
Hypothesis AB : A1 *m B1 = diagonal r r s.

Let Z := block_mx (diagonal r r s) 0 0 (diagonal p q (fun i => s (r + i)%N)).
Let A := col_mx A1 0 : 'M_(r + p, r).
Let B := row_mx B1 0 : 'M_(r, r + q).

Let e (i : 'I_r) : 'cV[F]_r := delta_mx i 0.
Let x (i : 'I_r) := A1^T *m e i.
Let y (i : 'I_r) := B1 *m e i.

Lemma norm_e n (i : 'I_n) : |[delta_mx i 0 : 'cV[F]_n]| = 1.
Proof. by rewrite inner_delta mxE !eqxx. Qed.

Lemma S_e (i : 'I_r) : diagonal r r s *m e i = s i *: e i.
Proof. by rewrite diagonal_square mul_diag_mx; apply/matrixP=> j k; rewrite !mxE; case: eqP => [->|_]; rewrite ?mulr0. Qed.

Lemma inner_xy (i : 'I_r) : <[x i, y i]> = s i.
Proof. by rewrite inner_mull trmxK mulmxA AB S_e innerZr norm_e mulr1. Qed.

Lemma norm_xy (i : 'I_r) : 2%:R * s i <= |[x i]| + |[y i]|.
Proof. by rewrite -(inner_xy i) inner_le. Qed.

Lemma smooth_ge L (i : 'I_r) : (forall dA dB, form Z A B dA dB <= L * (|[dA]| + |[dB]|)) -> |[x i]| + |[y i]| <= L.
Proof.
move=> smooth; set n := |[x i]| + |[y i]|.
have n_gt0 : 0 < n by apply: lt_le_trans (norm_xy i); rewrite mulr_gt0 ?ltr0n ?s_gt0.
have := smooth (col_mx (e i *m (y i)^T) 0) (row_mx (x i *m (e i)^T) 0).
rewrite form0 // /core !mul0mx !mulmx0 !inner0r mulr0 subr0 !addr0.
rewrite inner_col inner_row !inner_outer !norm_e !inner0r !addr0 mul1r mulr1 [_ + |[x i]|]addrC -/n.
set J := _ + A1 *m _ => le; rewrite -(ler_pmul2r n_gt0) -expr2; apply: le_trans le.
have : 2%:R * n * <[delta_mx i i, J]> <= n ^+ 2 * |[delta_mx i i : 'M[F]_r]| + |[J]| by exact: inner_le_weighted.
have -> : <[delta_mx i i, J]> = n.
  have -> : delta_mx i i = e i *m (e i)^T by rewrite trmx_delta mul_delta_mx.
  have left : <[e i *m (y i)^T *m B1, e i *m (e i)^T]> = |[y i]|.
    by rewrite inner_mulr -mulmxA -trmx_mul inner_outer norm_e mul1r.
  have right : <[A1 *m (x i *m (e i)^T), e i *m (e i)^T]> = |[x i]|.
    by rewrite inner_mull mulmxA inner_outer norm_e mulr1.
  by rewrite innerDr innerC left innerC right addrC.
by rewrite inner_delta mxE !eqxx mulr1 -mulrA -expr2 mulr_natl mulr2n ler_add2l.
Qed.

Lemma L_ge L mu (i : 'I_r) : valid Z A B L mu -> |[x i]| + |[y i]| <= L.
Proof. by case=> _ smooth _; apply: smooth_ge. Qed.

(* The couple of directions in which mu is small needs a row of A and a column of B that Z_r does not use. *)

Lemma mu_le L mu (i : 'I_r) (l : 'I_p) (h : 'I_q) : l = h :> nat -> valid Z A B L mu ->
  mu * (|[x i]| + |[y i]|) <= 2%:R * s i * (s i - s (r + l)%N).
Proof.
move=> lh [_ _ convex].
have := convex (col_mx 0 (delta_mx l 0 *m (x i)^T)) (row_mx 0 (y i *m (delta_mx h 0)^T)).
rewrite inner_col inner_row !inner0l !add0r !inner_outer !norm_e mul1r mulr1 form0 //.
rewrite mul0mx mulmx0 addr0 inner0l add0r => bound; apply: le_trans (bound _) _.
  by apply/orthogonal0 => //; exists 0; rewrite mul0mx mulmx0.
have xB : (x i)^T *m B1 = s i *: (e i)^T.
  by rewrite trmx_mul trmxK -mulmxA AB -[LHS]trmxK trmx_mul trmxK diagonal_tr S_e linearZ.
have Ay : A1 *m y i = s i *: e i by rewrite mulmxA AB S_e.
have xy : (x i)^T *m y i = (s i)%:M.
  rewrite [LHS]mx11_scalar -inner_xy; congr (_%:M).
  by rewrite /inner mxtrace_mulC -mxtrace_tr trmx_mul trmxK /mxtrace big_ord1.
rewrite /core -[delta_mx l 0 *m _ *m B1]mulmxA xB mulmxA Ay -[delta_mx l 0 *m _ *m _]mulmxA (mulmxA (x i)^T) xy.
rewrite mul_scalar_mx -!scalemxAr -scalemxAl !innerZl !innerZr !inner_outer !norm_e !mulr1.
rewrite trmx_delta mul_delta_mx [X in _ - _ * (_ * X)]innerC inner_delta mxE lh eqxx mulr1n.
by rewrite le_eqVlt; apply/orP; left; apply/eqP; ring.
Qed.

End TestVectors.

Section Optimality.

Variables (F : realFieldType) (r p q : nat).

Theorem balanced_optimal (Z : 'M[F]_(r + p, r + q)) s U V A B :
  (0 < p)%N -> (0 < q)%N -> truncated Z s U V A B ->
  kappa_at_least Z A B (2%:R * s 0%N / (s r.-1 - s r)).
Proof.
move=> p_gt0 q_gt0 min; have [A1 [B1 [AB -> -> ->]]] := canonical min.
case: min => UU VV step s_ge0 _ s_gap _ _ L mu /(valid_frame UU VV) ok.
have r_gt0 := r_gt0 s_gap; have last : (r.-1 < r)%N by rewrite prednK.
have top := le_trans (norm_xy AB (Ordinal r_gt0)) (L_ge step s_ge0 s_gap AB _ ok).
have low := mu_le step s_ge0 s_gap AB (Ordinal last) (l := Ordinal p_gt0) (h := Ordinal q_gt0) erefl ok.
have far := norm_xy AB (Ordinal last); move: far low top; rewrite /= addn0.
set n := _ + _ => far low top.
have gap : 0 < s r.-1 - s r by rewrite subr_gt0.
case: ok => mu_gt0 _ _; rewrite ler_pdivr_mulr // mulrAC ler_pdivl_mulr //.
have sr_gt0 := sr_gt0 s_ge0 s_gap.
have mu_le_gap : mu <= s r.-1 - s r.
  rewrite -(@ler_pmul2l _ (2%:R * s r.-1)) ?mulr_gt0 ?ltr0n //; apply: le_trans low.
  by rewrite mulrC ler_pmul2l.
apply: ler_pmul => //; rewrite ?(ltW mu_gt0) // mulr_ge0 ?ler0n //.
Qed.

End Optimality.
