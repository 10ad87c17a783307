(* kappa of a minimizer with B B^T = rho A^T A, the ratio that iLoRA asks for, where r < min(a, b): a = r + p,
   b = r + q.

   With square roots h of rho, w of s_r^2 (tau^2 - 4) + 4 s_{r+1}^2 and v of tau^2 - 4 + 4 (s_{r+1}/s_r)^2, all >= 0,
   and tau = h + 1/h:

   - imbalanced_condition_number: kappa = 2 s_1 tau / (s_r tau - w).
   - ratio_condition_number: that is tau (tau + v) / (4 (1 + s_{r+1}/s_r)) times 2 s_1 / (s_r - s_{r+1}), its value at
     balance (balance.v).
   - ratio_cost_lower: that factor is at least (rho + 2 + 1/rho) / 4, which exceeds 1 / (4 rho).
   - ratio_cost_upper: it is at most (1 + max(rho, 1/rho)) / 2, and just that if s_{r+1} = 0.

   The reason: B1 = h A1^T, so that B1^T B1 = h S and A1 A1^T = S/h, and the form's smallest value is the smaller
   eigenvalue of [[s_r h, -s_{r+1}], [-s_{r+1}, s_r/h]]. In the canonical frame h stands for 1/h. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From LoRA Require Import frobenius model1 condition_number minimizers bounds optimality balance corrected_bounds.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Canonical.

Variables (F : realFieldType) (r p q : nat) (s : nat -> F) (A1 B1 : 'M[F]_r) (h w : F).
Hypotheses (step : forall i, s i.+1 <= s i) (s_ge0 : forall i, 0 <= s i) (s_gap : s r < s r.-1).
Hypotheses (AB : A1 *m B1 = diagonal r r s) (h_gt0 : 0 < h) (proportional : A1^T *m A1 = h ^+ 2 *: (B1 *m B1^T)).

Let tau := h + h^-1.
Hypotheses (w_ge0 : 0 <= w) (ww : w ^+ 2 = s r.-1 ^+ 2 * (tau ^+ 2 - 4%:R) + 4%:R * s r ^+ 2).

Let Z := block_mx (diagonal r r s) 0 0 (diagonal p q (fun i => s (r + i)%N)).
Let A := col_mx A1 0 : 'M_(r + p, r).
Let B := row_mx B1 0 : 'M_(r, r + q).

Lemma ratio_A : A1 *m A1^T = h *: diagonal r r s.
Proof.
have -> : h *: diagonal r r s = diag_mx (\row_(i < r) (h * s i)).
  by rewrite diagonal_square; apply/matrixP => i j; rewrite !mxE mulrnAr.
apply: square_root_unique => [i|]; first by rewrite mxE mulr_gt0 ?s_gt0.
rewrite mulmxA -(mulmxA A1) proportional -scalemxAr mulmxA AB -!scalemxAl -mulmxA -trmx_mul AB diagonal_tr.
rewrite diagonal_square !mulmx_diag; apply/matrixP => i j; rewrite !mxE mulrnAr; congr (_ *+ _).
by rewrite expr2; move: (s i) => x; ring.
Qed.

Lemma A1_from_B1 : A1 = h *: B1^T.
Proof.
have A1u : A1 \in unitmx := A1_unit step s_ge0 s_gap AB.
have : A1 *m A1^T = A1 *m (h *: B1) by rewrite ratio_A -AB scalemxAr.
by move/(congr1 (mulmx (invmx A1))); rewrite !mulKmx // => E; rewrite -[A1]trmxK E linearZ.
Qed.

Lemma ratio_B : B1^T *m B1 = h^-1 *: diagonal r r s.
Proof. by rewrite -AB A1_from_B1 -scalemxAl scalerA mulVf ?scale1r // gt_eqF. Qed.

Lemma form_B n (v : 'M_(r, n)) : |[B1 *m v]| = h^-1 * <[v, diagonal r r s *m v]>.
Proof. by rewrite inner_mull mulmxA ratio_B -scalemxAl innerZr. Qed.

Lemma form_A n (v : 'M_(r, n)) : |[A1^T *m v]| = h * <[v, diagonal r r s *m v]>.
Proof. by rewrite inner_mull trmxK mulmxA ratio_A -scalemxAl innerZr. Qed.

Lemma S_ge n (v : 'M_(r, n)) : s r.-1 * |[v]| <= <[v, diagonal r r s *m v]>.
Proof. by rewrite diagonal_square; apply: diag_form_ge => i; rewrite mxE s_ge_sr. Qed.

Lemma S_le n (v : 'M_(r, n)) : <[v, diagonal r r s *m v]> <= s 0%N * |[v]|.
Proof. by rewrite diagonal_square; apply: diag_form_le => i; rewrite mxE descends. Qed.

Let h'_gt0 : 0 < h^-1. Proof. by rewrite invr_gt0. Qed.
Let sr_gt0 : 0 < s r.-1. Proof. exact: sr_gt0 s_ge0 s_gap. Qed.
Let s0_gt0 : 0 < s 0%N. Proof. by apply: lt_le_trans sr_gt0 _; apply: descends. Qed.
Let tau_gt0 : 0 < tau. Proof. by rewrite addr_gt0. Qed.

Lemma ratio_below_A (v : 'cV_r) : s r.-1 * h * |[v]| <= |[A1 *m v]|.
Proof.
rewrite -[A1]trmxK; apply: below_tr => [|u]; first by rewrite unitmx_tr (A1_unit step s_ge0 s_gap AB).
by rewrite form_A mulrAC mulrC ler_pmul2l // S_ge.
Qed.

Lemma ratio_below_B (v : 'cV_r) : s r.-1 / h * |[v]| <= |[B1^T *m v]|.
Proof.
apply: below_tr => [|u]; first exact: B1_unit step s_ge0 s_gap AB.
by rewrite form_B mulrAC mulrC ler_pmul2l // S_ge.
Qed.

Lemma ratio_above_A (v : 'cV_r) : |[A1 *m v]| <= s 0%N * h * |[v]|.
Proof.
rewrite -[A1]trmxK; apply: above_tr => [|u]; first by rewrite mulr_gt0.
by rewrite form_A [X in _ <= X]mulrAC [X in _ <= X]mulrC ler_pmul2l // S_le.
Qed.

Lemma ratio_above_B (v : 'cV_r) : |[B1^T *m v]| <= s 0%N / h * |[v]|.
Proof.
apply: above_tr => [|u]; first by rewrite mulr_gt0.
by rewrite form_B [X in _ <= X]mulrAC [X in _ <= X]mulrC ler_pmul2l // S_le.
Qed.

(* The smaller eigenvalue of [[s_r/h, -s_{r+1}], [-s_{r+1}, s_r h]]. *)

Definition low : F := 2%:R^-1 * (s r.-1 * tau - w).

Let two_gt0 : 0 < 2%:R :> F. Proof. by rewrite ltr0n. Qed.

Lemma low_det : (s r.-1 * h - low) * (s r.-1 / h - low) = s r ^+ 2.
Proof.
have scalar (x y t v : F) : 4%:R != 0 :> F -> y != 0 -> v ^+ 2 = x ^+ 2 * ((y + y^-1) ^+ 2 - 4%:R) + 4%:R * t ->
    (x * y - 2%:R^-1 * (x * (y + y^-1) - v)) * (x / y - 2%:R^-1 * (x * (y + y^-1) - v)) = t.
  move=> four y0 vv.
  have two : 2%:R != 0 :> F by rewrite pnatr_eq0.
  transitivity (4%:R^-1 * (v ^+ 2 - x ^+ 2 * ((y + y^-1) ^+ 2 - 4%:R))); first by field; rewrite y0 ?two ?four.
  by rewrite vv addrC addKr mulKf.
by apply: scalar; rewrite ?pnatr_eq0 ?gt_eqF.
Qed.

Lemma low_gt0 : 0 < low.
Proof.
have lt : w ^+ 2 < (s r.-1 * tau) ^+ 2.
  rewrite ww -subr_gt0.
  have -> : (s r.-1 * tau) ^+ 2 - (s r.-1 ^+ 2 * (tau ^+ 2 - 4%:R) + 4%:R * s r ^+ 2) =
    4%:R * ((s r.-1 - s r) * (s r.-1 + s r)) by ring.
  by rewrite !mulr_gt0 ?ltr0n ?subr_gt0 // ltr_spaddl.
rewrite /low mulr_gt0 ?invr_gt0 // subr_gt0; move: lt; rewrite ltr_pexpn2r ?nnegrE //.
by rewrite mulr_ge0 ?ltW.
Qed.

Lemma gap_le_w : `|s r.-1 * h - s r.-1 / h| <= w.
Proof.
rewrite -(@ler_pexpn2r _ 2) ?nnegrE // real_normK ?num_real // ww.
have -> : s r.-1 ^+ 2 * (tau ^+ 2 - 4%:R) = (s r.-1 * h - s r.-1 / h) ^+ 2.
  by rewrite /tau; field; rewrite gt_eqF.
by rewrite ler_addl mulr_ge0 ?ler0n // exprn_ge0.
Qed.

Lemma low_le_A : low <= s r.-1 * h.
Proof.
rewrite /low mulrC ler_pdivr_mulr // ler_subl_addl -ler_subl_addr; apply: le_trans gap_le_w.
rewrite -normrN; apply: le_trans (ler_norm _).
by rewrite /tau le_eqVlt; apply/orP; left; apply/eqP; ring.
Qed.

Lemma low_le_B : low <= s r.-1 / h.
Proof.
rewrite /low mulrC ler_pdivr_mulr // ler_subl_addl -ler_subl_addr; apply: le_trans gap_le_w.
apply: le_trans (ler_norm _).
by rewrite /tau le_eqVlt; apply/orP; left; apply/eqP; ring.
Qed.

Lemma ratio_valid : valid Z A B (s 0%N * tau) low.
Proof.
split; first exact: low_gt0.
  move=> dA dB; have [X1 [X2 [Y1 [Y2 [-> ->]]]]] := form_split dA dB.
  by rewrite /tau (mulrDr (s 0%N)); apply: smooth_above => //; [exact: ratio_above_A | exact: ratio_above_B].
have low_le : low <= s r.-1 * h + s r.-1 / h.
  by apply: le_trans low_le_A _; rewrite ler_addl mulr_ge0 // ltW.
apply: (convex_core step s_ge0 s_gap AB ratio_below_A ratio_below_B) => // [|X2 Y2].
  by rewrite addr_ge0 // mulr_ge0 // ltW.
exact: (core_eigenvalue step s_ge0 ratio_below_A ratio_below_B _ _ low_le_A low_le_B low_det).
Qed.

Let e (i : 'I_r) : 'cV[F]_r := delta_mx i 0.

Lemma S_e_form (i : 'I_r) : <[e i, diagonal r r s *m e i]> = s i.
Proof. by rewrite (S_e s i) innerZr norm_e mulr1. Qed.

Lemma ratio_L L mu : valid Z A B L mu -> s 0%N * tau <= L.
Proof.
move=> ok; pose i := Ordinal (r_gt0 s_gap).
have := L_ge step s_ge0 s_gap AB i ok; rewrite -/(e i) form_A form_B S_e_form.
by rewrite /tau mulrDr mulrC (mulrC (s 0%N) h^-1).
Qed.

(* The direction in which mu is attained. *)

Lemma ratio_direction (l : 'I_p) (c : 'I_q) (x y : F) L mu : l = 0%N :> nat -> c = 0%N :> nat -> valid Z A B L mu ->
  mu * (x ^+ 2 + y ^+ 2) <= s r.-1 / h * x ^+ 2 + s r.-1 * h * y ^+ 2 - 2%:R * (x * y * s r).
Proof.
move=> l0 c0 [_ _ convex]; have last : (r.-1 < r)%N by rewrite prednK // (r_gt0 s_gap).
pose i := Ordinal last; pose u := B1 *m e i.
have uu : |[u]| = s r.-1 / h by rewrite form_B S_e_form mulrC.
have uu_gt0 : 0 < |[u]| by rewrite uu mulr_gt0.
have uB : u^T *m B1 = (s r.-1 / h) *: (e i)^T.
  rewrite -[LHS]trmxK trmx_mul trmxK mulmxA ratio_B -scalemxAl (S_e s i) scalerA linearZ /=; congr (_ *: _).
  exact: mulrC.
have Au : A1 *m u = s r.-1 *: e i by rewrite mulmxA AB (S_e s i).
clearbody u; have := convex (col_mx 0 (x *: (delta_mx l 0 *m u^T))) (row_mx 0 (y *: (u *m (delta_mx c 0)^T))).
rewrite inner_col inner_row !inner0l !add0r !innerZl !innerZr !inner_outer !norm_e mul1r mulr1 form0 //.
rewrite mul0mx mulmx0 addr0 inner0l add0r => bound.
rewrite -(ler_pmul2r uu_gt0).
have -> : mu * (x ^+ 2 + y ^+ 2) * |[u]| = mu * (x * (x * |[u]|) + y * (y * |[u]|)) by ring.
apply: le_trans (bound _) _; first by apply/orthogonal0 => //; exists 0; rewrite mul0mx mulmx0.
rewrite /core -!scalemxAl -!scalemxAr -[delta_mx l 0 *m _ *m B1]mulmxA uB !mulmxA Au.
rewrite -[delta_mx l 0 *m _ *m u]mulmxA [u^T *m u]mx11_scalar.
have -> : (u^T *m u) 0 0 = |[u]| by rewrite /inner mxtrace_mulC /mxtrace big_ord1.
rewrite mul_mx_scalar -!scalemxAr -!scalemxAl !innerZl !innerZr !inner_outer !norm_e !mulr1.
rewrite trmx_delta mul_delta_mx (innerC _ (delta_mx l c)) inner_delta mxE l0 c0 addn0 eqxx mulr1n uu.
rewrite le_eqVlt; apply/orP; left; apply/eqP; move: (s r.-1) (s r) => t t'.
by field; rewrite gt_eqF.
Qed.

Lemma ratio_mu (l : 'I_p) (c : 'I_q) L mu : l = 0%N :> nat -> c = 0%N :> nat -> valid Z A B L mu -> mu <= low.
Proof.
move=> l0 c0 ok; pose y := s r.-1 / h - low; pose x := s r.
have [y0|y_neq0] := eqVneq y 0.
  have := ratio_direction 1 0 l0 c0 ok; rewrite expr1n expr0n /= !(mulr0, mul0r, addr0, mulr1, subr0).
  by move/le_trans; apply; rewrite -subr_le0 -/y y0.
have pos : 0 < x ^+ 2 + y ^+ 2 by rewrite addrC; apply: ltr_paddr; rewrite ?sqr_ge0 // exprn_even_gt0.
rewrite -(ler_pmul2r pos); apply: le_trans (ratio_direction x y l0 c0 ok) _.
rewrite le_eqVlt; apply/orP; left; apply/eqP.
have det : (s r.-1 * h - low) * y = x ^+ 2 := low_det.
have -> : s r.-1 * h * y ^+ 2 = y * (x ^+ 2 + low * y) by rewrite -det; ring.
have -> : s r.-1 / h = y + low by rewrite /y subrK.
by rewrite -/x; ring.
Qed.

End Canonical.

Section Ratio.

Variables (F : realFieldType) (r p q : nat) (Z : 'M[F]_(r + p, r + q)) (s : nat -> F).
Variables (U : 'M[F]_(r + p)) (V : 'M[F]_(r + q)) (A : 'M[F]_(r + p, r)) (B : 'M[F]_(r, r + q)) (h : F).
Hypotheses (p_gt0 : (0 < p)%N) (q_gt0 : (0 < q)%N) (min : truncated Z s U V A B).
Hypotheses (h_gt0 : 0 < h) (proportional : B *m B^T = h ^+ 2 *: (A^T *m A)).

Let tau := h + h^-1.

Theorem imbalanced_condition_number w : 0 <= w ->
  w ^+ 2 = s r.-1 ^+ 2 * (tau ^+ 2 - 4%:R) + 4%:R * s r ^+ 2 ->
  kappa_is Z A B (2%:R * s 0%N * tau / (s r.-1 * tau - w)).
Proof.
move=> w_ge0 ww; have [A1 [B1 [AB EA EB EZ]]] := canonical min.
have [UU VV step s_ge0 _ s_gap _ _] := min.
have k_gt0 : 0 < h^-1 by rewrite invr_gt0.
have tauE : h^-1 + h^-1^-1 = tau by rewrite invrK addrC.
have prop1 : A1^T *m A1 = h^-1 ^+ 2 *: (B1 *m B1^T).
  apply: (scalerI (expf_neq0 2 (lt0r_neq0 h_gt0))); rewrite scalerA -exprMn mulfV ?gt_eqF // expr1n scale1r.
  move: proportional; rewrite EA EB !trmx_mul !mulmxA -(mulmxA _ U^T) UU mulmx1 -(mulmxA _ V) VV mulmx1.
  by rewrite tr_col_mx tr_row_mx !mul_row_col !(trmx0, mul0mx, mulmx0, addr0) => ->.
have ww' : w ^+ 2 = s r.-1 ^+ 2 * ((h^-1 + h^-1^-1) ^+ 2 - 4%:R) + 4%:R * s r ^+ 2 by rewrite tauE.
have ok := ratio_valid p q step s_ge0 s_gap AB k_gt0 prop1 w_ge0 ww'; rewrite tauE in ok.
have low_gt0 : 0 < low r s h^-1 w by case: ok.
have tau_gt0 : 0 < tau by rewrite addr_gt0 ?invr_gt0.
have formula : 2%:R * s 0%N * tau / (s r.-1 * tau - w) = s 0%N * tau / low r s h^-1 w.
  have d_neq0 : s r.-1 * tau - w != 0.
    by move: low_gt0; rewrite /low tauE pmulr_rgt0 ?invr_gt0 ?ltr0n // => /gt_eqF->.
  by rewrite /low tauE; move: tau d_neq0 => t d_neq0; field; rewrite d_neq0 ?pnatr_eq0.
rewrite formula; split=> [L mu okL|]; last first.
  by exists (s 0%N * tau), (low r s h^-1 w); split=> //; rewrite EA EB EZ; apply: (valid_frame UU VV _ _ _ _ _).2.
have mu_gt0 : 0 < mu by case: okL.
move: okL; rewrite EA EB EZ => /(valid_frame UU VV) okL.
have L_ge := ratio_L step s_ge0 s_gap AB k_gt0 prop1 okL; rewrite tauE in L_ge.
have mu_le := ratio_mu step s_ge0 s_gap AB k_gt0 prop1 ww' (l := Ordinal p_gt0) (c := Ordinal q_gt0) erefl erefl okL.
rewrite ler_pdivr_mulr // mulrAC ler_pdivl_mulr //; apply: ler_pmul => //; rewrite ?(ltW mu_gt0) //.
by rewrite mulr_ge0 ?s_ge0 // ltW.
Qed.

Let tr : F := s r / s r.-1.

Lemma ratio_bounds : [/\ 0 <= tr, tr < 1, 0 < s r.-1 & 0 <= s 0%N].
Proof.
have [_ _ _ s_ge0 _ s_gap _ _] := min; have sr_gt0 := sr_gt0 s_ge0 s_gap.
by split=> //; [rewrite divr_ge0 | rewrite ltr_pdivr_mulr // mul1r].
Qed.

Section Cost.

Variable v : F.
Hypotheses (v_ge0 : 0 <= v) (vv : v ^+ 2 = tau ^+ 2 - 4%:R + 4%:R * (s r / s r.-1) ^+ 2).

Definition balanced_kappa : F := 2%:R * s 0%N / (s r.-1 - s r).
Definition cost : F := tau * (tau + v) / (4%:R * (1 + s r / s r.-1)).

Theorem ratio_condition_number : kappa_is Z A B (cost * balanced_kappa).
Proof.
have [tr_ge0 tr_lt1 sr_gt0 _] := ratio_bounds.
have gap : 0 < s r.-1 - s r by have [_ _ _ _ _ ? _ _] := min; rewrite subr_gt0.
have ww : (s r.-1 * v) ^+ 2 = s r.-1 ^+ 2 * (tau ^+ 2 - 4%:R) + 4%:R * s r ^+ 2.
  by rewrite exprMn vv; field; rewrite gt_eqF.
have := imbalanced_condition_number (mulr_ge0 (ltW sr_gt0) v_ge0) ww.
have tau_gt0 : 0 < tau by rewrite addr_gt0 ?invr_gt0.
have product : (tau - v) * (tau + v) = 4%:R * (1 - tr) * (1 + tr).
  by transitivity (tau ^+ 2 - v ^+ 2); [ring | rewrite vv -/tr; ring].
have sum_gt0 : 0 < tau + v by rewrite ltr_spaddl.
have tr1_gt0 : 0 < 1 + tr by rewrite ltr_spaddl ?ltr01.
have diff_gt0 : 0 < tau - v.
  by rewrite -(pmulr_lgt0 _ sum_gt0) product !mulr_gt0 ?ltr0n ?subr_gt0.
suff -> : 2%:R * s 0%N * tau / (s r.-1 * tau - s r.-1 * v) = cost * balanced_kappa by [].
have -> : cost * balanced_kappa = tau * (tau + v) * (2%:R * s 0%N) / (4%:R * (1 + tr) * (s r.-1 * (1 - tr))).
  rewrite /cost /balanced_kappa mulf_div; congr (_ / (_ * _)).
  by rewrite mulrBr mulr1 /tr mulrC divfK // gt_eqF.
have -> : 4%:R * (1 + tr) * (s r.-1 * (1 - tr)) = s r.-1 * (tau - v) * (tau + v).
  by rewrite -[RHS]mulrA product; ring.
rewrite -mulrBr; field.
by rewrite !gt_eqF.
Qed.

Lemma balanced_kappa_ge0 : 0 <= balanced_kappa.
Proof.
have [_ _ _ s0_ge0] := ratio_bounds; have [_ _ _ _ _ s_gap _ _] := min.
by apply: divr_ge0; [rewrite mulr_ge0 ?ler0n | rewrite subr_ge0 ltW].
Qed.

Let rho : F := h ^+ 2.

Lemma tau_square : tau ^+ 2 - 4%:R = (h - h^-1) ^+ 2.
Proof. by rewrite /tau; field; rewrite gt_eqF. Qed.

Theorem ratio_cost_lower : kappa_at_least Z A B ((rho + 2%:R + rho^-1) / 4%:R * balanced_kappa) /\
  rho^-1 / 4%:R < (rho + 2%:R + rho^-1) / 4%:R.
Proof.
have rho_gt0 : 0 < rho by rewrite exprn_gt0.
split; last by rewrite ltr_pmul2r ?invr_gt0 ?ltr0n // ltr_addr addr_gt0 ?ltr0n.
have [least _] := ratio_condition_number => L mu ok; apply: le_trans (least L mu ok).
rewrite ler_wpmul2r ?balanced_kappa_ge0 //; have [tr_ge0 tr_lt1 _ _] := ratio_bounds.
have tau_gt0 : 0 < tau by rewrite addr_gt0 ?invr_gt0.
have -> : rho + 2%:R + rho^-1 = tau * tau by rewrite /rho /tau; field; rewrite gt_eqF.
rewrite /cost -/tr; have tr1_gt0 : 0 < 1 + tr by rewrite ltr_spaddl ?ltr01.
rewrite invfM mulrA [X in _ <= X]mulrAC ler_pmul2r ?invr_gt0 ?ltr0n // -mulrA ler_pmul2l // ler_pdivl_mulr //.
rewrite mulrDr mulr1 ler_add2l.
have : (tau * tr) ^+ 2 <= v ^+ 2.
  rewrite vv -/tr -subr_ge0.
  have -> : tau ^+ 2 - 4%:R + 4%:R * tr ^+ 2 - (tau * tr) ^+ 2 = (tau ^+ 2 - 4%:R) * (1 - tr ^+ 2) by ring.
  by rewrite tau_square mulr_ge0 ?sqr_ge0 // subr_ge0 exprn_ile1 // ltW.
by rewrite ler_pexpn2r ?nnegrE // mulr_ge0 // ltW.
Qed.

Theorem ratio_cost_upper :
  kappa_at_most Z A B ((1 + Num.max rho rho^-1) / 2%:R * balanced_kappa) /\
  (s r = 0 -> kappa_is Z A B ((1 + Num.max rho rho^-1) / 2%:R * balanced_kappa)).
Proof.
have [tr_ge0 tr_lt1 sr_gt0 _] := ratio_bounds.
have tau_gt0 : 0 < tau by rewrite addr_gt0 ?invr_gt0.
have [eta [eta_ge1 tauE maxE]] : exists eta : F, [/\ 1 <= eta, tau = eta + eta^-1 & Num.max rho rho^-1 = eta ^+ 2].
  have [h1|h1] := lerP 1 h.
    exists h; split=> //; apply/max_idPl; rewrite -(@ler_pmul2l _ rho) ?exprn_gt0 // mulfV ?expf_neq0 ?gt_eqF //.
    by rewrite -expr2 -exprM exprn_ege1.
  exists h^-1; split; rewrite ?invf_ge1 ?(ltW h1) //; first by rewrite /tau invrK addrC.
  rewrite exprVn; apply/max_idPr; rewrite -(@ler_pmul2l _ rho) ?exprn_gt0 // mulfV ?expf_neq0 ?gt_eqF //.
  by rewrite -expr2 -exprM exprn_ile1 // ltW.
have eta_gt0 : 0 < eta by apply: lt_le_trans eta_ge1.
have squareE : tau ^+ 2 - 4%:R = (eta - eta^-1) ^+ 2 by rewrite tauE; field; rewrite gt_eqF.
have eta'_le1 : eta^-1 <= 1 by rewrite invf_le1.
have diff_ge0 : 0 <= eta - eta^-1 by rewrite subr_ge0 (le_trans eta'_le1).
have maxE' : 1 + Num.max rho rho^-1 = eta * tau by rewrite maxE tauE; field; rewrite gt_eqF.
have tr1_gt0 : 0 < 1 + tr by rewrite ltr_spaddl ?ltr01.
have costE : cost = tau * (tau + v) / (4%:R * (1 + tr)) by [].
have [least most] := ratio_condition_number; rewrite maxE'.
have cost_le : cost <= eta * tau / 2%:R.
  rewrite costE ler_pdivr_mulr ?mulr_gt0 ?ltr0n //.
  have -> : eta * tau / 2%:R * (4%:R * (1 + tr)) = tau * (2%:R * eta * (1 + tr)).
    by field.
  rewrite ler_pmul2l // -ler_subr_addl.
  have -> : 2%:R * eta * (1 + tr) - tau = (eta - eta^-1) + 2%:R * eta * tr by rewrite tauE; ring.
  have rest_ge0 : 0 <= 2%:R * eta * tr by apply: mulr_ge0 tr_ge0; rewrite mulr_ge0 ?ler0n // ltW.
  suff : v ^+ 2 <= (eta - eta^-1 + 2%:R * eta * tr) ^+ 2.
    by rewrite ler_pexpn2r ?nnegrE ?(addr_ge0 diff_ge0).
  rewrite vv -/tr squareE -subr_ge0.
  have -> : (eta - eta^-1 + 2%:R * eta * tr) ^+ 2 - ((eta - eta^-1) ^+ 2 + 4%:R * tr ^+ 2) =
    4%:R * eta * tr * (eta - eta^-1) + 4%:R * tr ^+ 2 * (eta ^+ 2 - 1) by ring.
  apply: addr_ge0; last by rewrite mulr_ge0 ?subr_ge0 ?exprn_ege1 // mulr_ge0 ?ler0n ?sqr_ge0.
  by apply: mulr_ge0 diff_ge0; apply: mulr_ge0 tr_ge0; rewrite mulr_ge0 ?ler0n // ltW.
split=> [|sr0].
  case: most => L [mu [ok le]]; exists L, mu; split=> //; apply: le_trans le _.
  by rewrite ler_wpmul2r ?balanced_kappa_ge0.
have tr0 : tr = 0 by rewrite /tr sr0 mul0r.
have vE : v = eta - eta^-1.
  by apply/eqP; rewrite -(@eqr_expn2 _ 2) // vv -/tr squareE tr0 expr0n /= mulr0 addr0.
suff <- : cost = eta * tau / 2%:R by [].
rewrite costE tr0 addr0 mulr1 vE tauE; field.
by rewrite gt_eqF.
Qed.

End Cost.

End Ratio.
