(* L = s_1(A)^2 + s_1(B)^2, and bounds on kappa by the singular values of A and B, at every minimizer of Model 1.

   With largest A alpha, largest B^T beta, smallest A alpha', smallest B^T beta' (squared singular values, attained) and
   m = min(alpha', beta'), s_{r+1} = 0 if r = min(a, b):

   - smoothness: H[d] <= (alpha + beta) |d|^2 for all d, with equality for some d other than 0.
   - upper_bound: kappa <= (alpha + beta) / (m - s_{r+1}) if m > s_{r+1}.
   - lower_bound: kappa >= (alpha + beta) / m if r < min(a, b).
   - exact_rank: kappa = (alpha + beta) / m if r < min(a, b) and s_{r+1} = 0, that is rank Z = r. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From LoRA Require Import frobenius model1 condition_number minimizers.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Transposed.

(* A square matrix and its transpose have the same bounds. *)

Variables (F : realFieldType) (n : nat) (A : 'M[F]_n) (alpha : F).

Lemma above_tr m (w : 'M_(n, m)) :
  0 < alpha -> (forall v : 'cV_n, |[A *m v]| <= alpha * |[v]|) -> |[A^T *m w]| <= alpha * |[w]|.
Proof.
move=> alpha_gt0 le.
have := inner_le_weighted alpha w (A *m (A^T *m w)).
rewrite -[A in <[w, A *m _]>]trmxK -inner_mull -(ler_pmul2l alpha_gt0).
have := bound_above (A^T *m w) le; set n1 := |[A^T *m w]|; set n2 := |[A *m _]| => two one.
have : 2%:R * alpha * n1 <= alpha ^+ 2 * |[w]| + alpha * n1 by apply: le_trans one _; rewrite ler_add2l.
by rewrite mulr_natl mulr2n mulrDl -ler_subr_addr addrK expr2 -mulrA.
Qed.

Lemma below_tr m (w : 'M_(n, m)) : A \in unitmx ->
  (forall v : 'cV_n, alpha * |[v]| <= |[A *m v]|) -> alpha * |[w]| <= |[A^T *m w]|.
Proof.
move=> Au ge; have [le0|alpha_gt0] := lerP alpha 0.
  by apply: le_trans (norm_ge0 _); rewrite mulr_le0_ge0 ?norm_ge0.
set u := invmx A *m w; have Eu : w = A *m u by rewrite (mulKVmx Au).
have := inner_le_weighted alpha u (A^T *m w).
rewrite -[<[u, _]>]inner_mull -Eu => le.
have : 2%:R * alpha * |[w]| <= alpha * |[w]| + |[A^T *m w]|.
  apply: le_trans le _; rewrite ler_add2r expr2 -mulrA ler_pmul2l // [in X in _ <= X]Eu.
  exact: bound_below.
by rewrite mulr_natl mulr2n mulrDl ler_add2l.
Qed.

End Transposed.

Section Canonical.

Variables (F : realFieldType) (r p q : nat) (s : nat -> F) (A1 B1 : 'M[F]_r) (alpha beta : F).
Hypotheses (step : forall i, s i.+1 <= s i) (s_ge0 : forall i, 0 <= s i) (s_gap : s r < s r.-1).
Hypothesis AB : A1 *m B1 = diagonal r r s.

Let Z := block_mx (diagonal r r s) 0 0 (diagonal p q (fun i => s (r + i)%N)).
Let A := col_mx A1 0 : 'M_(r + p, r).
Let B := row_mx B1 0 : 'M_(r, r + q).
Let A1u := A1_unit step s_ge0 s_gap AB.
Let B1u := B1_unit step s_ge0 s_gap AB.

Lemma right_tr n (X : 'M[F]_(n, r)) : |[X *m B1]| = |[B1^T *m X^T]|.
Proof. by rewrite -inner_tr trmx_mul. Qed.

(* Where |A1 w|^2 = alpha |w|^2 and |B1^T v|^2 = beta |v|^2, the sum alpha + beta is attained. *)

Let X (w v : 'cV_r) := (beta *: (A1 *m w)) *m v^T.
Let Y (w v : 'cV_r) := (alpha *: w) *m (B1^T *m v)^T.

Lemma sum_attained (w v : 'cV_r) : |[A1 *m w]| = alpha * |[w]| -> |[B1^T *m v]| = beta * |[v]| ->
  let dA : 'M_(r + p, r) := col_mx (X w v) 0 in let dB : 'M_(r, r + q) := row_mx (Y w v) 0 in
  form Z A B dA dB = (alpha + beta) * (|[dA]| + |[dB]|).
Proof.
move=> Ew Ev dA dB; rewrite form0 // /core !mul0mx !mulmx0 !inner0r mulr0 subr0 !addr0 inner_col inner_row !inner0r !addr0.
have -> : X w v *m B1 + A1 *m Y w v = ((alpha + beta) *: (A1 *m w)) *m (B1^T *m v)^T.
  by rewrite /X /Y trmx_mul trmxK !mulmxA -!scalemxAr -!scalemxAl scalerDl addrC.
by rewrite /X /Y !inner_outer !innerZl !innerZr Ew Ev; ring.
Qed.

Lemma first_part_ge (a' b' : F) (W : 'M[F]_r) :
  0 <= a' + b' ->
  (forall v : 'cV_r, a' * |[v]| <= |[A1 *m v]|) -> (forall v : 'cV_r, b' * |[v]| <= |[B1^T *m v]|) ->
  (a' + b') * (|[W *m B1^T]| + |[A1^T *m W]|) <= |[W *m B1^T *m B1 + A1 *m (A1^T *m W)]|.
Proof.
move=> c_ge0 below_A below_B; set X1 := W *m B1^T; set Y1 := A1^T *m W; set J := _ *m B1 + _.
have WJ : <[W, J]> = |[X1]| + |[Y1]| by rewrite innerDr -{1}[B1]trmxK -{1}[A1]trmxK -inner_mulr -inner_mull.
have WW : (a' + b') * |[W]| <= |[X1]| + |[Y1]|.
  have B1Tu : B1^T \in unitmx by rewrite unitmx_tr.
  have := below_tr W^T B1Tu below_B; rewrite trmxK -[B1 *m _]trmxK trmx_mul trmxK !inner_tr => leX.
  by have := below_tr W A1u below_A; rewrite mulrDl addrC => leY; apply: ler_add.
have := inner_le_weighted (a' + b') W J; rewrite WJ => le.
have : 2%:R * (a' + b') * (|[X1]| + |[Y1]|) <= (a' + b') * (|[X1]| + |[Y1]|) + |[J]|.
  by apply: le_trans le _; rewrite ler_add2r expr2 -mulrA ler_wpmul2l.
by rewrite -mulrA mulr_natl mulr2n ler_add2l.
Qed.

Lemma core_below (b' a' : F) (X2 : 'M_(p, r)) (Y2 : 'M_(r, q)) :
  (forall v : 'cV_r, a' * |[v]| <= |[A1 *m v]|) -> (forall v : 'cV_r, b' * |[v]| <= |[B1^T *m v]|) ->
  b' * |[X2]| + a' * |[Y2]| - s r * (|[X2]| + |[Y2]|) <= core s A1 B1 X2 Y2.
Proof.
move=> below_A below_B; rewrite /core ler_sub ?coupling // ler_add ?bound_below //.
by rewrite right_tr -(inner_tr X2); apply: bound_below.
Qed.

Lemma convex_below (a' b' m : F) :
  (forall v : 'cV_r, a' * |[v]| <= |[A1 *m v]|) -> (forall v : 'cV_r, b' * |[v]| <= |[B1^T *m v]|) ->
  s r < m -> m <= a' -> m <= b' ->
  forall dA dB, orthogonal_to_kernel Z A B dA dB -> (m - s r) * (|[dA]| + |[dB]|) <= form Z A B dA dB.
Proof.
move=> below_A below_B t_lt m_a m_b dA dB; have [X1 [X2 [Y1 [Y2 [-> ->]]]]] := form_split dA dB.
case/orthogonal0 => // W [-> ->]; rewrite form0 // inner_col inner_row addrACA mulrDr.
have t_ge0 := s_ge0 r; have m_gt0 := le_lt_trans t_ge0 t_lt.
have c_ge0 : 0 <= a' + b' by rewrite addr_ge0 // (le_trans (ltW m_gt0)).
apply: ler_add.
  apply: le_trans (first_part_ge W c_ge0 below_A below_B).
  rewrite ler_wpmul2r ?addr_ge0 ?norm_ge0 // ler_sub_addr -addrA (le_trans m_a) // ler_addl addr_ge0 //.
  by rewrite (le_trans (ltW m_gt0)).
apply: le_trans (core_below _ _ below_A below_B).
by rewrite mulrBl ler_add2r mulrDr ler_add // ler_wpmul2r ?norm_ge0.
Qed.

(* A row that Z_r does not use sees B alone, a column A alone. *)

Lemma row_direction (l : 'I_p) (v : 'cV_r) L mu : valid Z A B L mu -> mu * |[v]| <= |[B1^T *m v]|.
Proof.
case=> _ _ convex; have := convex (col_mx 0 (delta_mx l 0 *m v^T)) 0.
rewrite -row_mx0 form0 // /core inner_col inner_row.
rewrite !(mul0mx, mulmx0, addr0, add0r, inner0r, mulr0, subr0) -mulmxA -[v^T *m B1]trmxK trmx_mul trmxK !inner_outer.
rewrite inner_delta mxE !eqxx !mul1r; apply.
by apply/orthogonal0 => //; exists 0; rewrite mul0mx mulmx0.
Qed.

Lemma column_direction (l : 'I_q) (v : 'cV_r) L mu : valid Z A B L mu -> mu * |[v]| <= |[A1 *m v]|.
Proof.
case=> _ _ convex; have := convex 0 (row_mx 0 (v *m (delta_mx l 0)^T)).
rewrite -col_mx0 form0 // /core inner_col inner_row.
rewrite !(mul0mx, mulmx0, addr0, add0r, inner0r, mulr0, subr0) mulmxA !inner_outer inner_delta mxE !eqxx !mulr1; apply.
by apply/orthogonal0 => //; exists 0; rewrite mul0mx mulmx0.
Qed.

Lemma above_gt0 (C : 'M[F]_r) c : C \in unitmx -> (forall v : 'cV_r, |[C *m v]| <= c * |[v]|) -> 0 < c.
Proof.
move=> Cu le; have i := Ordinal (r_gt0 s_gap).
have := le (delta_mx i 0); rewrite inner_delta mxE !eqxx mulr1; apply: lt_le_trans.
rewrite norm_gt0; apply/eqP => zero; have : delta_mx i 0 = 0 :> 'cV[F]_r by rewrite -(mulKmx Cu (delta_mx i 0)) zero mulmx0.
by move/matrixP => /(_ i 0); rewrite !mxE !eqxx => /eqP; rewrite oner_eq0.
Qed.

Hypotheses (above_A : forall v : 'cV_r, |[A1 *m v]| <= alpha * |[v]|).
Hypotheses (above_B : forall v : 'cV_r, |[B1^T *m v]| <= beta * |[v]|).

Lemma alpha_gt0 : 0 < alpha. Proof. exact: above_gt0 A1u above_A. Qed.
Lemma beta_gt0 : 0 < beta. Proof. by apply: above_gt0 above_B; rewrite unitmx_tr. Qed.

Lemma top_le : s r ^+ 2 <= alpha * beta.
Proof.
have i := Ordinal (r_gt0 s_gap); pose e := delta_mx i 0 : 'cV[F]_r.
have ee : |[e]| = 1 by rewrite inner_delta mxE !eqxx.
have : |[A1 *m (B1 *m e)]| <= alpha * beta.
  apply: le_trans (bound_above _ above_A) _; rewrite ler_pmul2l ?alpha_gt0 //.
  by have := above_tr e beta_gt0 above_B; rewrite trmxK ee mulr1.
apply: le_trans; rewrite mulmxA AB diagonal_square inner_mull tr_diag_mx mulmxA mulmx_diag.
rewrite -[_ ^+ 2]mulr1 -ee; apply: diag_form_ge => j; rewrite !mxE -expr2 ler_expn2r ?nnegrE ?s_ge0 //.
by apply: descends => //; apply: ltnW.
Qed.

Lemma smooth_above X1 X2 Y1 Y2 : form Z A B (col_mx X1 X2) (row_mx Y1 Y2) <=
  (alpha + beta) * (|[col_mx X1 X2]| + |[row_mx Y1 Y2]|).
Proof.
have a_gt0 := alpha_gt0; have b_gt0 := beta_gt0.
have XB n (C : 'M[F]_(n, r)) : |[C *m B1]| <= beta * |[C]| by rewrite right_tr -(inner_tr C); apply: bound_above.
have AY n (C : 'M[F]_(r, n)) : |[A1 *m C]| <= alpha * |[C]| by apply: bound_above.
rewrite form0 // inner_col inner_row.
have -> : (alpha + beta) * (|[X1]| + |[X2]| + (|[Y1]| + |[Y2]|)) =
  (alpha + beta) * (|[X1]| + |[Y1]|) + (alpha + beta) * (|[X2]| + |[Y2]|) by ring.
apply: ler_add.
  have := XB _ X1; have := AY _ Y1; move: (X1 *m B1) (A1 *m Y1) => P Q leQ leP.
  rewrite -(ler_pmul2l (mulr_gt0 a_gt0 b_gt0)) norm_add.
  have cross := inner_le (alpha *: P) (beta *: Q); rewrite !innerZl !innerZr in cross.
  have -> : alpha * beta * (|[P]| + 2%:R * <[P, Q]> + |[Q]|) =
    alpha * beta * (|[P]| + |[Q]|) + 2%:R * (alpha * (beta * <[P, Q]>)) by ring.
  apply: le_trans (_ : _ <= (alpha + beta) * (alpha * |[P]| + beta * |[Q]|)) _.
    have -> : (alpha + beta) * (alpha * |[P]| + beta * |[Q]|) =
      alpha * beta * (|[P]| + |[Q]|) + (alpha * (alpha * |[P]|) + beta * (beta * |[Q]|)) by ring.
    by rewrite ler_add2l.
  have -> : alpha * beta * ((alpha + beta) * (|[X1]| + |[Y1]|)) =
    (alpha + beta) * (alpha * (beta * |[X1]|) + beta * (alpha * |[Y1]|)) by ring.
  by rewrite ler_pmul2l ?addr_gt0 // ler_add // ler_pmul2l.
have leX := XB _ X2; have leY := AY _ Y2.
have le := coupling_weighted r step s_ge0 alpha (- X2) Y2.
rewrite mulNmx innerNr mulrN innerNl innerNr opprK in le.
rewrite /core; move: le; set c := <[_, _]> => le.
have -> : (alpha + beta) * (|[X2]| + |[Y2]|) =
  beta * |[X2]| + alpha * |[Y2]| + (alpha * |[X2]| + beta * |[Y2]|) by ring.
rewrite ler_add ?ler_add // -(ler_pmul2l a_gt0) mulrN mulrA [alpha * 2%:R]mulrC; apply: le_trans le _.
by rewrite mulrDr expr2 !mulrA ler_add2l ler_wpmul2r ?norm_ge0 // top_le.
Qed.

End Canonical.

Section Bounds.

Variables (F : realFieldType) (r p q : nat) (Z : 'M[F]_(r + p, r + q)) (s : nat -> F).
Variables (U : 'M[F]_(r + p)) (V : 'M[F]_(r + q)) (A : 'M[F]_(r + p, r)) (B : 'M[F]_(r, r + q)).
Variables (alpha beta a' b' : F).
Hypothesis min : truncated Z s U V A B.

Lemma norm_frameA (A1 : 'M[F]_r) n (w : 'M_(r, n)) :
  U^T *m U = 1%:M -> |[U *m col_mx A1 (0 : 'M_(p, r)) *m w]| = |[A1 *m w]|.
Proof. by move=> UU; rewrite -mulmxA inner_orthol // mul_col_mx mul0mx inner_col inner0l addr0. Qed.

Lemma norm_frameB (B1 : 'M[F]_r) n (w : 'M_(r, n)) :
  V *m V^T = 1%:M -> |[(row_mx B1 (0 : 'M_(r, q)) *m V)^T *m w]| = |[B1^T *m w]|.
Proof.
move=> VV; rewrite trmx_mul tr_row_mx trmx0 -mulmxA inner_orthol ?trmxK //.
by rewrite mul_col_mx mul0mx inner_col inner0l addr0.
Qed.

Theorem smoothness : largest A alpha -> largest B^T beta ->
  (forall dA dB, form Z A B dA dB <= (alpha + beta) * (|[dA]| + |[dB]|)) /\
  (exists dA dB, 0 < |[dA]| + |[dB]| /\ form Z A B dA dB = (alpha + beta) * (|[dA]| + |[dB]|)).
Proof.
case=> leA [w w0 Ew] [leB [v v0 Ev]].
have [A1 [B1 [AB EA EB EZ]]] := canonical min.
case: min => UU VV step s_ge0 _ s_gap _ _; rewrite EA EB EZ.
have le1 (x : 'cV_r) : |[A1 *m x]| <= alpha * |[x]| by rewrite -norm_frameA // -EA.
have le2 (x : 'cV_r) : |[B1^T *m x]| <= beta * |[x]| by rewrite -norm_frameB // -EB.
split=> [dA dB|].
  rewrite (frameA UU dA) (frameB VV dB) form_frame // inner_orthol // inner_orthor //.
  move: (U^T *m dA) (dB *m V^T) => dA' dB'; have [X1 [X2 [Y1 [Y2 [-> ->]]]]] := form_split dA' dB'.
  exact: smooth_above.
rewrite EA norm_frameA // in Ew; rewrite EB norm_frameB // in Ev.
pose dA : 'M_(r + p, r) := col_mx ((beta *: (A1 *m w)) *m v^T) 0.
pose dB : 'M_(r, r + q) := row_mx ((alpha *: w) *m (B1^T *m v)^T) 0.
have eq : form _ _ _ dA dB = (alpha + beta) * (|[dA]| + |[dB]|) := sum_attained p q AB Ew Ev.
exists (U *m dA), (dB *m V); rewrite form_frame // inner_orthol // inner_orthor //; split=> //.
rewrite addrC; apply: ltr_paddr; first exact: norm_ge0.
have a_gt0 := alpha_gt0 step s_ge0 s_gap AB le1; have b_gt0 := beta_gt0 step s_ge0 s_gap AB le2.
rewrite /dB inner_row inner0l addr0 inner_outer innerZl innerZr Ev.
by rewrite !mulr_gt0 ?norm_gt0.
Qed.

Lemma upper_valid : largest A alpha -> largest B^T beta -> smallest A a' -> smallest B^T b' ->
  s r < Num.min a' b' -> valid Z A B (alpha + beta) (Num.min a' b' - s r).
Proof.
move=> topA topB [geA _] [geB _] t_lt.
split; [by rewrite subr_gt0 | by have [] := smoothness topA topB|].
have [A1 [B1 [AB EA EB EZ]]] := canonical min.
case: min => UU VV step s_ge0 _ s_gap _ _; rewrite EA EB EZ => dA dB.
rewrite (frameA UU dA) (frameB VV dB) orthogonal_frame // form_frame // inner_orthol // inner_orthor //.
apply: (@convex_below F r p q s A1 B1 step s_ge0 s_gap AB a' b') => // [v|v||].
- by rewrite -norm_frameA // -EA.
- by rewrite -norm_frameB // -EB.
- by rewrite le_minl lexx.
by rewrite le_minl lexx orbT.
Qed.

Theorem upper_bound : largest A alpha -> largest B^T beta -> smallest A a' -> smallest B^T b' ->
  s r < Num.min a' b' -> kappa_at_most Z A B ((alpha + beta) / (Num.min a' b' - s r)).
Proof.
by move=> topA topB lowA lowB t_lt; exists (alpha + beta), (Num.min a' b' - s r); split=> //; apply: upper_valid.
Qed.

Lemma smallest_gt0 : smallest A a' -> smallest B^T b' -> 0 < Num.min a' b'.
Proof.
have [A1 [B1 [AB EA EB _]]] := canonical min; have [UU VV step s_ge0 _ s_gap _ _] := min.
have A1u := A1_unit step s_ge0 s_gap AB; have B1u := B1_unit step s_ge0 s_gap AB.
move=> [_ [w w0 Ew]] [_ [v v0 Ev]].
have w_gt0 : 0 < |[w]| by rewrite norm_gt0.
have v_gt0 : 0 < |[v]| by rewrite norm_gt0.
rewrite lt_minr -(pmulr_lgt0 a' w_gt0) -(pmulr_lgt0 b' v_gt0) -Ew -Ev.
rewrite EA EB norm_frameA // norm_frameB // !norm_gt0; apply/andP; split.
  by apply: contraNneq w0 => zero; rewrite -[w](mulKmx A1u) zero mulmx0.
have B1Tu : B1^T \in unitmx by rewrite unitmx_tr.
by apply: contraNneq v0 => zero; rewrite -[v](mulKmx B1Tu) zero mulmx0.
Qed.

Theorem lower_bound : (0 < p)%N -> (0 < q)%N ->
  largest A alpha -> largest B^T beta -> smallest A a' -> smallest B^T b' ->
  kappa_at_least Z A B ((alpha + beta) / Num.min a' b').
Proof.
move=> p_gt0 q_gt0 topA topB [_ [w w0 Ew]] [_ [v v0 Ev]] L mu ok.
have [_ [dA [dB [d_gt0 top]]]] := smoothness topA topB.
have L_ge : alpha + beta <= L.
  by rewrite -(ler_pmul2r d_gt0) -top; case: ok.
have [A1 [B1 [AB EA EB EZ]]] := canonical min.
case: min => UU VV step s_ge0 _ s_gap _ _.
move: (ok); rewrite EA EB EZ => /(valid_frame UU VV) ok'.
rewrite EA norm_frameA // in Ew; rewrite EB norm_frameB // in Ev.
have := row_direction step s_ge0 s_gap AB (Ordinal p_gt0) v ok'.
have := column_direction step s_ge0 s_gap AB (Ordinal q_gt0) w ok'.
rewrite Ew Ev !ler_pmul2r ?norm_gt0 // => mu_a mu_b.
have mu_gt0 : 0 < mu by case: ok.
have m_ge : mu <= Num.min a' b' by rewrite le_minr mu_a.
have m_gt0 := lt_le_trans mu_gt0 m_ge.
have sum_ge0 : 0 <= alpha + beta.
  by rewrite addr_ge0 // ?(largest_ge0 topA) ?(largest_ge0 topB).
rewrite ler_pdivr_mulr // mulrAC ler_pdivl_mulr //; apply: ler_pmul => //; exact: ltW.
Qed.

Theorem exact_rank : (0 < p)%N -> (0 < q)%N -> s r = 0 ->
  largest A alpha -> largest B^T beta -> smallest A a' -> smallest B^T b' ->
  kappa_is Z A B ((alpha + beta) / Num.min a' b').
Proof.
move=> p_gt0 q_gt0 sr0 topA topB lowA lowB; split; first exact: lower_bound.
have := upper_bound topA topB lowA lowB; rewrite sr0 subr0; apply; exact: smallest_gt0.
Qed.

End Bounds.
