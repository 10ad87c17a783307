(* The corrected lower bound on kappa at every minimizer of Model 1, in each of the shapes.

   In the gauge G, A = U [D G; 0], B = [G^-1 D, 0] V with D = diag(s_1, ..., s_r)^(1/2), alpha, beta, alpha', beta' as in
   bounds.v, m = min(alpha', beta'):

   - corrected_lower_bound: kappa >= (alpha + beta) max(1 / m, (|G^T e_r|^2 + |G^-1 e_r|^2) / (2 (s_r - s_{r+1}))) for
     r < min(a, b), and (alpha + beta) / mu with mu = beta' for a > b = r, alpha' for b > a = r, alpha' + beta' for
     r = a = b. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From LoRA Require Import frobenius model1 condition_number minimizers bounds optimality square_roots.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

(* Where the smallest |C w|^2 / |w|^2 is attained, w is an eigenvector of C^T C. *)

Lemma smallest_eigenvector (F : realFieldType) m n (C : 'M[F]_(m, n)) (c : F) (w : 'cV_n) :
  (forall v : 'cV_n, c * |[v]| <= |[C *m v]|) -> |[C *m w]| = c * |[w]| -> C^T *m (C *m w) = c *: w.
Proof.
move=> ge Ew; pose P := C^T *m C - c%:M.
have PE (v : 'cV_n) : P *m v = C^T *m (C *m v) - c *: v by rewrite mulmxBl mul_scalar_mx mulmxA.
have form (v : 'cV_n) : <[v, P *m v]> = |[C *m v]| - c * |[v]| by rewrite PE innerBr innerZr -inner_mull.
have P_psd : psd P by split=> [|v]; [rewrite /P linearB /= trmx_mul trmxK tr_scalar_mx | rewrite form subr_ge0].
by apply/eqP; rewrite -subr_eq0 -PE (psd_kernel P_psd) // form Ew subrr.
Qed.

Theorem corrected_lower_bound (F : realFieldType) r p q (Z : 'M[F]_(r + p, r + q)) s U V A B
    (alpha beta a' b' : F) (d : nat -> F) (G : 'M_r) (last : 'I_r) :
  truncated Z s U V A B -> largest A alpha -> largest B^T beta -> smallest A a' -> smallest B^T b' ->
  (forall i, d i ^+ 2 = s i) -> G \in unitmx -> last = r.-1 :> nat ->
  A = U *m col_mx (diagonal r r d *m G) 0 -> B = row_mx (invmx G *m diagonal r r d) 0 *m V ->
  let e := delta_mx last 0 : 'cV_r in
  [/\ (0 < p)%N -> (0 < q)%N -> kappa_at_least Z A B ((alpha + beta) *
        Num.max (Num.min a' b')^-1 ((|[G^T *m e]| + |[invmx G *m e]|) / (2%:R * (s r.-1 - s r)))),
      (0 < p)%N -> q = 0%N -> kappa_at_least Z A B ((alpha + beta) / b'),
      p = 0%N -> (0 < q)%N -> kappa_at_least Z A B ((alpha + beta) / a') &
      p = 0%N -> q = 0%N -> kappa_at_least Z A B ((alpha + beta) / (a' + b'))].
Proof.
move=> min topA topB lowA lowB dd Gu Elast EA EB e.
have [UU VV step s_ge0 _ s_gap EZ _] := min; rewrite (diagonal_block r r p q s) in EZ.
set A1 := diagonal r r d *m G in EA; set B1 := invmx G *m diagonal r r d in EB.
have AB : A1 *m B1 = diagonal r r s.
  rewrite mulmxA (mulmxK Gu) !diagonal_square mulmx_diag; congr diag_mx.
  by apply/rowP => i; rewrite !mxE -expr2 dd.
have L_ge L mu : valid Z A B L mu -> alpha + beta <= L.
  have [_ [dA [dB [d_gt0 top]]]] := smoothness min topA topB.
  by case=> _ smooth _; rewrite -(ler_pmul2r d_gt0) -top.
have sum_ge0 : 0 <= alpha + beta by rewrite addr_ge0 ?(largest_ge0 topA) ?(largest_ge0 topB).
have quotient L mu c : valid Z A B L mu -> 0 <= c -> mu * c <= 1 -> (alpha + beta) * c <= L / mu.
  move=> ok c_ge0 le; have mu_gt0 : 0 < mu by case: ok.
  rewrite ler_pdivl_mulr // -mulrA -[L]mulr1; apply: ler_pmul => //; first by rewrite mulr_ge0 // ltW.
    exact: L_ge ok.
  by rewrite mulrC.
have ok' L mu : valid Z A B L mu -> valid (block_mx (diagonal r r s) 0 0 (diagonal p q (fun i => s (r + i)%N)))
    (col_mx A1 0) (row_mx B1 0) L mu by rewrite EA EB EZ => /(valid_frame UU VV).
have := smallest_gt0 min lowA lowB; rewrite lt_minr => /andP[a_gt0 b_gt0].
have [geA [w w0 Ew]] := lowA; have [geB [v v0 Ev]] := lowB.
rewrite EA norm_frameA // in Ew; rewrite EB norm_frameB // in Ev.
have w_gt0 : 0 < |[w]| by rewrite norm_gt0.
have v_gt0 : 0 < |[v]| by rewrite norm_gt0.
have mu_b L mu : (0 < p)%N -> valid Z A B L mu -> mu <= b'.
  move=> pos ok; have := row_direction step s_ge0 s_gap AB (Ordinal pos) v (ok' _ _ ok).
  by rewrite Ev ler_pmul2r.
have mu_a L mu : (0 < q)%N -> valid Z A B L mu -> mu <= a'.
  move=> pos ok; have := column_direction step s_ge0 s_gap AB (Ordinal pos) w (ok' _ _ ok).
  by rewrite Ew ler_pmul2r.
split=> [p_gt0 q_gt0 | p_gt0 _ | _ q_gt0 | p0 q0] L mu ok.
- have mu_gt0 : 0 < mu by case: ok.
  have gap : 0 < s r.-1 - s r by rewrite subr_gt0.
  case: (leP (Num.min a' b')^-1 _) => _; last first.
    apply: quotient => //; first by rewrite invr_ge0 le_minr !ltW.
    by rewrite ler_pdivr_mulr ?lt_minr ?a_gt0 // mul1r le_minr (mu_a _ _ q_gt0 ok) (mu_b _ _ p_gt0 ok).
  apply: quotient => //.
    by rewrite divr_ge0 ?addr_ge0 ?norm_ge0 // mulr_ge0 ?ler0n ?ltW.
  have sr_gt0 := sr_gt0 s_ge0 s_gap.
  have := mu_le step s_ge0 s_gap AB last (l := Ordinal p_gt0) (h := Ordinal q_gt0) erefl (ok' _ _ ok).
  have De : diagonal r r d *m e = d last *: e by exact: S_e.
  have EAe : |[A1^T *m e]| = s last * |[G^T *m e]|.
    by rewrite /A1 trmx_mul -mulmxA diagonal_tr De -scalemxAr innerZl innerZr mulrA -expr2 dd.
  have EBe : |[B1 *m e]| = s last * |[invmx G *m e]|.
    by rewrite /B1 -mulmxA De -scalemxAr innerZl innerZr mulrA -expr2 dd.
  rewrite -/e EAe EBe /= addn0 Elast -mulrDr => le0.
  have le : mu * (|[G^T *m e]| + |[invmx G *m e]|) <= 2%:R * (s r.-1 - s r).
    by rewrite -(ler_pmul2l sr_gt0) mulrCA [X in _ <= X]mulrCA [X in _ <= X]mulrA.
  by rewrite mulrA ler_pdivr_mulr ?mul1r // mulr_gt0 ?ltr0n.
- by apply: quotient => //; [rewrite invr_ge0 ltW|rewrite ler_pdivr_mulr // mul1r; apply: mu_b ok].
- by apply: quotient => //; [rewrite invr_ge0 ltW|rewrite ler_pdivr_mulr // mul1r; apply: mu_a ok].
have ab_gt0 : 0 < a' + b' by rewrite addr_gt0.
apply: quotient => //; first by rewrite invr_ge0 ltW.
rewrite ler_pdivr_mulr // mul1r.
have ge1 (x : 'cV_r) : a' * |[x]| <= |[A1 *m x]| by rewrite -(norm_frameA A1 x UU) -EA.
have ge2 (x : 'cV_r) : b' * |[x]| <= |[B1^T *m x]| by rewrite -(norm_frameB B1 x VV) -EB.
have eigA := smallest_eigenvector ge1 Ew; have eigB := smallest_eigenvector ge2 Ev; rewrite trmxK in eigB.
pose W := (A1 *m w) *m (B1^T *m v)^T.
have [_ _ convex] := ok' _ _ ok; have := convex (col_mx (W *m B1^T) 0) (row_mx (A1^T *m W) 0).
rewrite form0 // inner_col inner_row /core !(mul0mx, mulmx0, inner0r, mulr0, subr0, addr0).
have EX : W *m B1^T = b' *: (A1 *m w *m v^T) by rewrite /W -mulmxA -trmx_mul eigB linearZ /= -scalemxAr.
have EY : A1^T *m W = a' *: (w *m (B1^T *m v)^T) by rewrite /W mulmxA eigA -scalemxAl.
have EJ : W *m B1^T *m B1 + A1 *m (A1^T *m W) = (a' + b') *: W.
  by rewrite EX EY -scalemxAl -scalemxAr -mulmxA -[v^T *m B1]trmxK trmx_mul trmxK mulmxA -scalerDl addrC.
rewrite EJ EX EY !innerZl !innerZr !inner_outer Ew Ev => /(_ _) le.
have pos : 0 < (a' + b') * (a' * |[w]| * (b' * |[v]|)) by rewrite !mulr_gt0.
rewrite -(ler_pmul2r pos); apply: le_trans (le_trans (le _) _).
- by rewrite le_eqVlt; apply/orP; left; apply/eqP; ring.
- by rewrite -EX -EY; apply/orthogonal0 => //; exists W.
by rewrite le_eqVlt; apply/orP; left; apply/eqP; ring.
Qed.
