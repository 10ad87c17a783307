(* Model 2, 1/2 |h(A B) - Z|^2 where h(A B) = Z: the Hessian's form is |J(dA B + A dB)|^2, J the Jacobian of h at A B.

   J is any matrix that acts on vec(W), valid2 says of this form what `valid` says of Model 1's. A B = U diag(s_1, ...,
   s_r, 0, ...) V has rank r; alpha, beta, alpha', beta' and m are as in bounds.v.

   - model2_upper_bound: if lo |W|^2 <= |J W|^2 <= hi |W|^2 for all W, lo > 0: kappa <= hi / lo (alpha + beta) / m.
   - model2_tangent_bound: the same for every J, if the upper bound holds for tangent W = dA B + A dB, and the lower one
     for those tangent W that are orthogonal to all tangent W' with J W' = 0.
   - model2_bound_at_balance: (alpha + beta) / m >= 2 s_1 / s_r, with equality if A^T A = B B^T. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From LoRA Require Import frobenius model1 condition_number minimizers bounds optimality balance full_rank.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Projection.

Variable F : realFieldType.

(* The nearest point of a row space exists. *)

Lemma projection_exists k n (K : 'M[F]_(k, n)) (w : 'rV_n) : exists c : 'rV_k, forall x : 'rV_k,
  <[w - c *m K, x *m K]> = 0.
Proof.
pose R := row_base K; have Rfree : row_free R := row_base_free K.
have Gu : R *m R^T \in unitmx.
  rewrite -row_free_unit -kermx_eq0; apply/rowV0P => v /sub_kermxP; rewrite mulmxA => zero.
  have : |[v *m R]| = 0 by rewrite inner_mulr zero inner0r.
  by move/eqP; rewrite norm_eq0 mulmx_free_eq0 // => /eqP.
have [D ED] : exists D, K = D *m R by apply/submxP; rewrite eq_row_base.
have [E EE] : exists E, R = E *m K by apply/submxP; rewrite eq_row_base.
exists (w *m R^T *m invmx (R *m R^T) *m E) => x.
have -> : w *m R^T *m invmx (R *m R^T) *m E *m K = w *m R^T *m invmx (R *m R^T) *m R by rewrite -mulmxA -EE.
have -> : x *m K = x *m D *m R by rewrite -mulmxA -ED.
set y := w - _; have zero : y *m R^T = 0.
  by rewrite /y mulmxBl -[_ *m R *m R^T]mulmxA (mulmxKV Gu) subrr.
by rewrite innerC inner_mulr zero inner0r.
Qed.

(* For a map N with |N t|^2 >= m |t|^2 off its kernel, and J with |J w|^2 >= lo |w|^2 for w = N t orthogonal to the
   kernel of J in the range of N: |J N t|^2 >= lo m |t|^2 off the kernel of J N. *)

Lemma composed_bound d n k (N : 'M[F]_(d, n)) (J : 'M_(n, k)) lo m (t : 'rV_d) : 0 <= lo ->
  (forall t : 'rV_d, (forall u : 'rV_d, u *m N = 0 -> <[t, u]> = 0) -> m * |[t]| <= |[t *m N]|) ->
  (forall t : 'rV_d, (forall u : 'rV_d, u *m N *m J = 0 -> <[t *m N, u *m N]> = 0) -> lo * |[t *m N]| <= |[t *m N *m J]|) ->
  0 <= m -> (forall u : 'rV_d, u *m N *m J = 0 -> <[t, u]> = 0) -> lo * m * |[t]| <= |[t *m N *m J]|.
Proof.
move=> lo_ge0 N_ge J_ge m_ge0 perp.
pose K := kermx (N *m J).
have inK (u : 'rV_d) : u *m N *m J = 0 -> exists x, u = x *m K.
  by rewrite -mulmxA => zero; apply/submxP/sub_kermxP.
have KNJ (x : 'rV_d) : x *m K *m N *m J = 0.
  by rewrite -(mulmxA _ N) -[x *m K *m _]mulmxA (mulmx_ker (N *m J)) mulmx0.
clearbody K.
have kN (x : 'rV_d) : x *m kermx N *m N = 0 by rewrite -[_ *m N]mulmxA (mulmx_ker N) mulmx0.
have [c far] := projection_exists (K *m N) (t *m N).
pose t1 := t - c *m K.
have t1N : t1 *m N = t *m N - c *m (K *m N) by rewrite mulmxBl -(mulmxA c).
have t1NJ : t1 *m N *m J = t *m N *m J by rewrite !mulmxBl KNJ subr0.
have [c' far'] := projection_exists (kermx N) t1.
pose t2 := t1 - c' *m kermx N.
have t2N : t2 *m N = t1 *m N by rewrite mulmxBl kN subr0.
have one : lo * |[t1 *m N]| <= |[t1 *m N *m J]|.
  by apply: J_ge => u /inK [x ->]; rewrite t1N -(mulmxA x).
have two : m * |[t2]| <= |[t1 *m N]|.
  rewrite -t2N; apply: N_ge => u zero.
  by have /submxP[x ->] : (u <= kermx N)%MS by apply/sub_kermxP.
have three : |[t]| <= |[t2]|.
  have : <[t, c *m K + c' *m kermx N]> = 0.
    by apply: perp; rewrite mulmxDl mulmxDl KNJ kN mul0mx addr0.
  have -> : t2 = t - (c *m K + c' *m kermx N) by rewrite /t2 /t1 opprD addrA.
  by rewrite norm_sub => ->; rewrite mulr0 subr0 ler_addl norm_ge0.
rewrite -t1NJ; apply: le_trans one; rewrite -mulrA ler_wpmul2l //.
by apply: le_trans two; rewrite ler_wpmul2l.
Qed.

End Projection.

Section Model2.

Variables (F : realFieldType) (a b r k : nat) (J : 'M[F]_(a * b, k)) (A : 'M[F]_(a, r)) (B : 'M[F]_(r, b)).

Definition image W : 'rV_k := mxvec W *m J.

Definition form2 dA dB : F := |[image (jacobian A B dA dB)]|.

Definition orthogonal_to_kernel2 dA dB : Prop :=
  forall kA kB, image (jacobian A B kA kB) = 0 -> <[dA, kA]> + <[dB, kB]> = 0.

Definition valid2 (L mu : F) : Prop :=
  [/\ 0 < mu,
      forall dA dB, form2 dA dB <= L * (|[dA]| + |[dB]|) &
      forall dA dB, orthogonal_to_kernel2 dA dB -> mu * (|[dA]| + |[dB]|) <= form2 dA dB].

Lemma inner_vec m n (W X : 'M[F]_(m, n)) : <[mxvec W, mxvec X]> = <[W, X]>.
Proof.
rewrite [RHS]innerE pair_big /= innerE big_ord1 (reindex _ (curry_mxvec_bij _ _)) /=.
by apply: eq_bigr => [[i j]] _; rewrite !mxvecE.
Qed.

End Model2.

Section Bounds2.

Variables (F : realFieldType) (r p q k : nat) (J : 'M[F]_((r + p) * (r + q), k)) (s : nat -> F).
Variables (U : 'M[F]_(r + p)) (V : 'M[F]_(r + q)) (A : 'M[F]_(r + p, r)) (B : 'M[F]_(r, r + q)).
Variables (alpha beta a' b' lo hi : F).
Hypotheses (min : truncated (A *m B) s U V A B) (rank : s r = 0).

Let m := Num.min a' b'.

Theorem model2_tangent_bound :
  largest A alpha -> largest B^T beta -> smallest A a' -> smallest B^T b' -> 0 < lo -> lo <= hi ->
  (forall dA dB, |[image J (jacobian A B dA dB)]| <= hi * |[jacobian A B dA dB]|) ->
  (forall dA dB,
    (forall kA kB, image J (jacobian A B kA kB) = 0 -> <[jacobian A B dA dB, jacobian A B kA kB]> = 0) ->
    lo * |[jacobian A B dA dB]| <= |[image J (jacobian A B dA dB)]|) ->
  exists L mu, valid2 J A B L mu /\ L / mu <= hi / lo * ((alpha + beta) / m).
Proof.
move=> topA topB lowA lowB lo_gt0 lo_hi above below.
have m_gt0 : 0 < m := smallest_gt0 min lowA lowB.
have [|_ smooth convex] := upper_valid min topA topB lowA lowB; first by rewrite rank.
rewrite rank subr0 -/m in convex.
exists (hi * (alpha + beta)), (lo * m); split; last by rewrite mulf_div.
split=> [|dA dB|dA dB perp]; first by rewrite mulr_gt0.
  apply: le_trans (above dA dB) _; rewrite -mulrA ler_wpmul2l ?(le_trans (ltW lo_gt0)) //.
  by rewrite -(form_interpolation (erefl (A *m B))); apply: smooth.
pose vec (dA : 'M[F]_(r + p, r)) (dB : 'M[F]_(r, r + q)) := row_mx (mxvec dA) (mxvec dB).
pose N := col_mx (lin_mx (mulmxr B)) (lin_mx (mulmx A)) : 'M[F]_(_, (r + p) * (r + q)).
have vecN dX dY : vec dX dY *m N = mxvec (jacobian A B dX dY).
  by rewrite mul_row_col !mul_vec_lin /= -linearD.
have vecV x : exists dX dY, x = vec dX dY.
  by exists (vec_mx (lsubmx x)), (vec_mx (rsubmx x)); rewrite /vec !vec_mxK hsubmxK.
have norm_pair dX dY dX' dY' : <[vec dX dY, vec dX' dY']> = <[dX, dX']> + <[dY, dY']>.
  by rewrite inner_row !inner_vec.
rewrite -norm_pair /form2 /image -vecN.
apply: composed_bound => [|x perpN|x perpJ||u].
- exact: ltW.
- have [dX [dY Ex]] := vecV x; rewrite Ex vecN inner_vec norm_pair.
  rewrite -(form_interpolation (erefl (A *m B))); apply: convex => kA kB.
  move/(kernel_interpolation (erefl (A *m B))) => J0.
  by rewrite -norm_pair -Ex; apply: perpN; rewrite vecN J0 linear0.
- have [dX [dY Ex]] := vecV x; rewrite Ex vecN inner_vec; apply: below => kA kB zero.
  by rewrite -inner_vec -!vecN -Ex; apply: perpJ; rewrite vecN.
- exact: ltW.
have [kA [kB ->]] := vecV u; rewrite vecN norm_pair; exact: perp.
Qed.

Theorem model2_upper_bound :
  largest A alpha -> largest B^T beta -> smallest A a' -> smallest B^T b' -> 0 < lo -> lo <= hi ->
  (forall W, |[image J W]| <= hi * |[W]|) -> (forall W, lo * |[W]| <= |[image J W]|) ->
  exists L mu, valid2 J A B L mu /\ L / mu <= hi / lo * ((alpha + beta) / m).
Proof. by move=> *; apply: model2_tangent_bound. Qed.

Theorem model2_bound_at_balance :
  largest A alpha -> largest B^T beta -> smallest A a' -> smallest B^T b' ->
  2%:R * s 0%N / s r.-1 <= (alpha + beta) / m /\
  (A^T *m A = B *m B^T -> (alpha + beta) / m = 2%:R * s 0%N / s r.-1).
Proof.
move=> topA topB lowA lowB; have m_gt0 : 0 < m := smallest_gt0 min lowA lowB.
have [A1 [B1 [AB EA EB _]]] := canonical min; have [UU VV step s_ge0 _ s_gap _ _] := min.
have A1u := A1_unit step s_ge0 s_gap AB; have B1u := B1_unit step s_ge0 s_gap AB.
have [leA [wA wA0 EwA]] := topA; have [leB [wB wB0 EwB]] := topB.
have [geA [vA vA0 EvA]] := lowA; have [geB [vB vB0 EvB]] := lowB.
have le1 (x : 'cV_r) : |[A1 *m x]| <= alpha * |[x]| by rewrite -(norm_frameA A1 x UU) -EA.
have le2 (x : 'cV_r) : |[B1^T *m x]| <= beta * |[x]| by rewrite -(norm_frameB B1 x VV) -EB.
have ge1 (x : 'cV_r) : a' * |[x]| <= |[A1 *m x]| by rewrite -(norm_frameA A1 x UU) -EA.
have ge2 (x : 'cV_r) : b' * |[x]| <= |[B1^T *m x]| by rewrite -(norm_frameB B1 x VV) -EB.
have sr_gt0 := sr_gt0 s_ge0 s_gap.
have lower : 2%:R * s 0%N / s r.-1 <= (alpha + beta) / m.
  pose i := Ordinal (r_gt0 s_gap).
  have last : (r.-1 < r)%N by rewrite prednK ?(r_gt0 s_gap).
  have top : 2%:R * s 0%N <= alpha + beta.
    apply: le_trans (norm_xy AB i) _; apply: ler_add.
      apply: le_trans (above_tr _ (alpha_gt0 step s_ge0 s_gap AB le1) le1) _; rewrite norm_e mulr1 //.
    have := above_tr (delta_mx i 0 : 'cV_r) (beta_gt0 step s_ge0 s_gap AB le2) le2.
    by rewrite trmxK norm_e mulr1.
  have low : m <= s r.-1.
    rewrite -(@ler_pexpn2r _ 2) ?nnegrE ?(ltW m_gt0) ?(ltW sr_gt0) //.
    have [m_a m_b] : m <= a' /\ m <= b' by rewrite /m !le_minl !lexx orbT.
    have a_ge0 := le_trans (ltW m_gt0) m_a.
    pose e : 'cV[F]_r := delta_mx (Ordinal last) 0.
    have Be : b' <= |[B1 *m e]|.
      have B1Tu : B1^T \in unitmx by rewrite unitmx_tr.
      by have := below_tr e B1Tu ge2; rewrite trmxK norm_e mulr1.
    have Se : |[A1 *m (B1 *m e)]| = s r.-1 ^+ 2.
      by rewrite mulmxA AB (S_e s (Ordinal last)) innerZl innerZr norm_e mulr1 expr2.
    rewrite -Se; apply: le_trans (ge1 _); apply: le_trans (ler_wpmul2l a_ge0 Be).
    by rewrite expr2; apply: ler_pmul; rewrite ?(ltW m_gt0).
  rewrite ler_pdivr_mulr // mulrAC ler_pdivl_mulr //; apply: ler_pmul => //; rewrite ?(ltW m_gt0) //.
  by rewrite mulr_ge0 ?ler0n.
split=> // bal; apply/eqP; rewrite eq_le lower andbT.
have bal1 := balanced_canonical min bal EA EB.
have a_le : alpha <= s 0%N.
  rewrite -(@ler_pmul2r _ |[wA]|) ?norm_gt0 // -EwA EA norm_frameA //.
  exact: balanced_above_A step s_ge0 s_gap AB bal1 _.
have b_le : beta <= s 0%N.
  rewrite -(@ler_pmul2r _ |[wB]|) ?norm_gt0 // -EwB EB norm_frameB //.
  exact: balanced_above_B step s_ge0 s_gap AB bal1 _.
have a_ge : s r.-1 <= a'.
  rewrite -(@ler_pmul2r _ |[vA]|) ?norm_gt0 // -EvA EA norm_frameA //.
  exact: balanced_below_A step s_ge0 s_gap AB bal1 _.
have b_ge : s r.-1 <= b'.
  rewrite -(@ler_pmul2r _ |[vB]|) ?norm_gt0 // -EvB EB norm_frameB //.
  exact: balanced_below_B step s_ge0 s_gap AB bal1 _.
have low : s r.-1 <= m by rewrite le_minr a_ge.
have s0_ge0 := s_ge0 0%N.
rewrite ler_pdivr_mulr // mulrAC ler_pdivl_mulr //; apply: ler_pmul => //; rewrite ?(ltW sr_gt0) //.
  by rewrite addr_ge0 ?(largest_ge0 topA) ?(largest_ge0 topB).
by rewrite mulr_natl mulr2n ler_add.
Qed.

End Bounds2.
