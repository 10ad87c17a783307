(* The corrected upper bound on kappa at every minimizer of Model 1, never vacuous.

   In the gauge G: A = U [D G; 0], B = [G^-1 D, 0] V with D = diag(s_1, ..., s_r)^(1/2); g >= |G|^2, |G^-1|^2 (spectral
   norms); lambda the smallest eigenvalue of [[beta', -t], [-t, alpha']], t = s_{r+1}, alpha' = s_r(A)^2, beta' = s_r(B)^2.

   - corrected_upper_bound: kappa <= (alpha + beta) / max(lambda, (s_r - s_{r+1}) / g). *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From LoRA Require Import frobenius model1 condition_number minimizers bounds.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Core.

Variables (F : realFieldType) (r p q : nat) (s : nat -> F) (A1 B1 : 'M[F]_r) (a' b' : F).
Hypotheses (step : forall i, s i.+1 <= s i) (s_ge0 : forall i, 0 <= s i) (s_gap : s r < s r.-1).
Hypothesis AB : A1 *m B1 = diagonal r r s.
Hypotheses (below_A : forall v : 'cV_r, a' * |[v]| <= |[A1 *m v]|).
Hypotheses (below_B : forall v : 'cV_r, b' * |[v]| <= |[B1^T *m v]|).

Lemma core_eigenvalue lambda (X2 : 'M_(p, r)) (Y2 : 'M_(r, q)) :
  lambda <= a' -> lambda <= b' -> (a' - lambda) * (b' - lambda) = s r ^+ 2 ->
  lambda * (|[X2]| + |[Y2]|) <= core s A1 B1 X2 Y2.
Proof.
move=> la lb det.
have one : b' * |[X2]| <= |[X2 *m B1]| by rewrite right_tr -(inner_tr X2); apply: bound_below.
have two : a' * |[Y2]| <= |[A1 *m Y2]| by apply: bound_below.
rewrite /core; set c := 2%:R * _.
have three : c <= (b' - lambda) * |[X2]| + (a' - lambda) * |[Y2]|.
  have : 0 <= b' - lambda by rewrite subr_ge0.
  rewrite le_eqVlt => /orP[/eqP/esym z|pos].
    have t0 : s r = 0 by move: det; rewrite z mulr0 => /esym/eqP; rewrite sqrf_eq0 => /eqP.
    have := coupling r step s_ge0 X2 Y2; rewrite -/c t0 mul0r z mul0r add0r => /le_trans; apply.
    by rewrite mulr_ge0 ?norm_ge0 // subr_ge0.
  have weighted := coupling_weighted r step s_ge0 (b' - lambda) X2 Y2.
  rewrite -(ler_pmul2l pos) /c mulrCA mulrA; apply: le_trans weighted _.
  rewrite -det; move: (b' - lambda) (a' - lambda) => x y.
  by rewrite mulrDr expr2 -!mulrA ler_add2l (mulrCA x y).
have -> : lambda * (|[X2]| + |[Y2]|) =
  b' * |[X2]| + a' * |[Y2]| - ((b' - lambda) * |[X2]| + (a' - lambda) * |[Y2]|) by ring.
by rewrite ler_sub // ler_add.
Qed.

Lemma convex_core c : 0 <= a' + b' -> c <= a' + b' ->
  (forall (X2 : 'M_(p, r)) (Y2 : 'M_(r, q)), c * (|[X2]| + |[Y2]|) <= core s A1 B1 X2 Y2) ->
  let Z := block_mx (diagonal r r s) 0 0 (diagonal p q (fun i => s (r + i)%N)) in
  forall dA dB, orthogonal_to_kernel Z (col_mx A1 0) (row_mx B1 0) dA dB ->
  c * (|[dA]| + |[dB]|) <= form Z (col_mx A1 0) (row_mx B1 0) dA dB.
Proof.
move=> sum_ge0 c_le core_ge Z dA dB; have [X1 [X2 [Y1 [Y2 [-> ->]]]]] := form_split dA dB.
case/orthogonal0 => // W [-> ->]; rewrite form0 // inner_col inner_row addrACA mulrDr ler_add //.
apply: le_trans (first_part_ge step s_ge0 s_gap AB W sum_ge0 below_A below_B).
by rewrite ler_wpmul2r // addr_ge0 ?norm_ge0.
Qed.

End Core.

Section Gauge.

Variables (F : realFieldType) (r p q : nat) (s d : nat -> F) (G : 'M[F]_r) (g : F).
Hypotheses (step : forall i, s i.+1 <= s i) (s_ge0 : forall i, 0 <= s i) (s_gap : s r < s r.-1).
Hypotheses (dd : forall i, d i ^+ 2 = s i) (Gu : G \in unitmx) (g_gt0 : 0 < g).
Hypotheses (le_G : forall v : 'cV_r, |[G *m v]| <= g * |[v]|).
Hypotheses (le_G' : forall v : 'cV_r, |[invmx G *m v]| <= g * |[v]|).

Let D := diagonal r r d : 'M[F]_r.

Lemma D_ge n (w : 'M_(r, n)) : s r.-1 * |[w]| <= |[D *m w]|.
Proof.
rewrite inner_mull mulmxA diagonal_tr /D diagonal_square mulmx_diag; apply: diag_form_ge => i.
by rewrite !mxE -expr2 dd s_ge_sr.
Qed.

Lemma gauge_below_A n (w : 'M_(r, n)) : s r.-1 * |[w]| <= g * |[D *m G *m w]|.
Proof.
apply: le_trans (_ : s r.-1 * (g * |[G *m w]|) <= _).
  rewrite ler_wpmul2l ?s_ge0 // -{1 2}[w](mulKmx Gu); exact: bound_above.
by rewrite mulrCA ler_pmul2l // -mulmxA D_ge.
Qed.

Lemma gauge_below_B n (w : 'M_(n, r)) : s r.-1 * |[w]| <= g * |[w *m (invmx G *m D)]|.
Proof.
apply: le_trans (_ : s r.-1 * (g * |[w *m invmx G]|) <= _).
  rewrite ler_wpmul2l ?s_ge0 // -{1 2}[w](mulmxKV Gu) -inner_tr trmx_mul -(inner_tr (w *m _)).
  exact: above_tr.
rewrite mulrCA ler_pmul2l // mulmxA; move: (w *m invmx G) => u.
rewrite -(inner_tr u) -(inner_tr (u *m D)) trmx_mul {1 2}/D diagonal_tr; exact: D_ge.
Qed.

Lemma core_gauge (X2 : 'M_(p, r)) (Y2 : 'M_(r, q)) : D *m G *m (invmx G *m D) = diagonal r r s ->
  (s r.-1 - s r) / g * (|[X2]| + |[Y2]|) <= core s (D *m G) (invmx G *m D) X2 Y2.
Proof.
move=> AB; have sr_gt0 := sr_gt0 s_ge0 s_gap; have gap : 0 < s r.-1 - s r by rewrite subr_gt0.
have := core_ge step s_ge0 s_gap AB X2 Y2; have := gauge_below_A Y2; have := gauge_below_B X2.
move=> leX leY le; rewrite mulrAC ler_pdivr_mulr // -(ler_pmul2l sr_gt0).
apply: le_trans (_ : (s r.-1 - s r) * (g * (|[X2 *m (invmx G *m D)]| + |[D *m G *m Y2]|)) <= _).
  by rewrite mulrCA ler_pmul2l // !mulrDr ler_add.
rewrite mulrCA; apply: le_trans (ler_wpmul2l (ltW g_gt0) le) _.
by rewrite le_eqVlt; apply/orP; left; apply/eqP; rewrite mulrCA (mulrC g).
Qed.

End Gauge.

Theorem corrected_upper_bound (F : realFieldType) r p q (Z : 'M[F]_(r + p, r + q)) s U V A B
    (alpha beta a' b' lambda g : F) (d : nat -> F) (G : 'M_r) :
  truncated Z s U V A B -> largest A alpha -> largest B^T beta -> smallest A a' -> smallest B^T b' ->
  (forall i, d i ^+ 2 = s i) -> G \in unitmx ->
  A = U *m col_mx (diagonal r r d *m G) 0 -> B = row_mx (invmx G *m diagonal r r d) 0 *m V ->
  (forall v : 'cV_r, |[G *m v]| <= g * |[v]|) -> (forall v : 'cV_r, |[invmx G *m v]| <= g * |[v]|) ->
  lambda <= a' -> lambda <= b' -> (a' - lambda) * (b' - lambda) = s r ^+ 2 ->
  kappa_at_most Z A B ((alpha + beta) / Num.max lambda ((s r.-1 - s r) / g)).
Proof.
move=> min topA topB lowA lowB dd Gu EA EB leG leG' la lb det.
have [UU VV step s_ge0 _ s_gap EZ _] := min; rewrite (diagonal_block r r p q s) in EZ.
set A1 := diagonal r r d *m G in EA *; set B1 := invmx G *m diagonal r r d in EB *.
have AB : A1 *m B1 = diagonal r r s.
  rewrite mulmxA (mulmxK Gu) !diagonal_square mulmx_diag; congr diag_mx.
  by apply/rowP => i; rewrite !mxE -expr2 dd.
have m_gt0 := smallest_gt0 min lowA lowB; move: m_gt0; rewrite lt_minr => /andP[a_gt0 b_gt0].
have [geA [v v0 Ev]] := lowA; have [geB _] := lowB.
have ge1 (x : 'cV_r) : a' * |[x]| <= |[A1 *m x]| by rewrite -(norm_frameA A1 x UU) -EA.
have ge2 (x : 'cV_r) : b' * |[x]| <= |[B1^T *m x]| by rewrite -(norm_frameB B1 x VV) -EB.
have sr_gt0 := sr_gt0 s_ge0 s_gap.
have g_gt0 : 0 < g by exact: (@above_gt0 _ _ _ s_gap G g Gu leG).
have gap_g : (s r.-1 - s r) / g <= a'.
  rewrite ler_pdivr_mulr //; apply: le_trans (_ : s r.-1 <= _); first by rewrite ler_subl_addr ler_addl.
  have v_gt0 : 0 < |[v]| by rewrite norm_gt0.
  rewrite -(ler_pmul2r v_gt0) mulrAC -Ev mulrC EA norm_frameA // mulrC.
  by rewrite [X in _ <= X]mulrC; apply: gauge_below_A.
exists (alpha + beta), (Num.max lambda ((s r.-1 - s r) / g)); split=> //; split.
- by rewrite lt_maxr divr_gt0 ?orbT ?subr_gt0.
- by have [] := smoothness min topA topB.
move=> dA dB; rewrite EA EB EZ (frameA UU dA) (frameB VV dB).
rewrite orthogonal_frame // form_frame // inner_orthol // inner_orthor //.
apply: (convex_core step s_ge0 s_gap AB ge1 ge2).
- by rewrite addr_ge0 ?ltW.
- have sum_ge : a' <= a' + b' by rewrite ler_addl ltW.
  by rewrite le_maxl (le_trans la) // (le_trans gap_g).
move=> X2 Y2; case: (leP lambda ((s r.-1 - s r) / g)) => _.
  exact: core_gauge.
exact: core_eigenvalue.
Qed.
