(* r = min(a, b): the minimizers are the pairs with A B = Z, and the infimum of kappa over them is 1.

   - full_rank_optimum: for Z of size a x r (r x b) and rank r > 0, kappa >= 1 at every pair with A B = Z, and for every
     eps > 0 there is one, B = c I and A = Z / c (A = c I and B = Z / c), with kappa <= 1 + eps. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From LoRA Require Import frobenius model1 condition_number.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Interpolation.

Variables (F : realFieldType) (a b r : nat) (Z : 'M[F]_(a, b)) (A : 'M[F]_(a, r)) (B : 'M[F]_(r, b)).
Hypothesis AB : A *m B = Z.

Lemma form_interpolation dA dB : form Z A B dA dB = |[jacobian A B dA dB]|.
Proof. by rewrite /form AB subrr inner0l mulr0 addr0. Qed.

Lemma kernel_interpolation dA dB : in_kernel Z A B dA dB <-> jacobian A B dA dB = 0.
Proof.
split=> [[zA zB] | J0]; last by rewrite /in_kernel /hessianA /hessianB J0 AB subrr !(mul0mx, mulmx0, addr0).
apply/eqP; rewrite -norm_eq0 -form_interpolation form_hessian zA zB !inner0r addr0 //.
Qed.

Lemma orthogonal_interpolation W : orthogonal_to_kernel Z A B (W *m B^T) (A^T *m W).
Proof.
by move=> kA kB /kernel_interpolation J0; rewrite inner_mulr trmxK inner_mull trmxK -innerDr -/(jacobian A B kA kB) J0 inner0r.
Qed.

Lemma kappa_at_least_1 : Z != 0 -> kappa_at_least Z A B 1.
Proof.
move=> Z0 L mu [mu_gt0 smooth convex].
have := le_trans (convex _ _ (orthogonal_interpolation Z)) (smooth _ _).
rewrite ler_pmul2r ?ler_pdivl_mulr ?mul1r //.
apply: ltr_paddr; first exact: norm_ge0.
rewrite norm_gt0; apply: contraNneq Z0 => zero; rewrite -norm_eq0 -{1}AB.
by rewrite inner_mulr zero inner0r.
Qed.

Lemma kernel_orbit_interpolation W : in_kernel Z A B (A *m W) (- (W *m B)).
Proof. by apply/kernel_interpolation; rewrite /jacobian mulmxN mulmxA subrr. Qed.

End Interpolation.

Lemma norm_mul_le (F : realFieldType) m n l (A : 'M[F]_(m, n)) (w : 'M_(n, l)) : |[A *m w]| <= |[A]| * |[w]|.
Proof.
apply: bound_above => v; have [->|v0] := eqVneq v 0; first by rewrite mulmx0 !inner0l mulr0.
have v_gt0 : 0 < |[v]| by rewrite norm_gt0.
have := inner_le_weighted |[v]| A ((A *m v) *m v^T).
rewrite innerC inner_mulr trmxK [<[A *m v, A *m v]>]lock -lock inner_outer => le.
rewrite -(ler_pmul2l v_gt0) -(ler_add2r (|[v]| * |[A *m v]|)).
apply: le_trans (_ : _ <= |[v]| ^+ 2 * |[A]| + |[A *m v]| * |[v]|) _.
  by apply: le_trans le; rewrite -mulrA mulr_natl mulr2n.
by rewrite le_eqVlt; apply/orP; left; apply/eqP; ring.
Qed.

Section Tall.

Variables (F : realFieldType) (a r : nat) (Z : 'M[F]_(a, r)) (c : F).
Hypotheses (Z0 : Z != 0) (c_gt0 : 0 < c).

Let A := c^-1 *: Z.
Let B := c%:M : 'M[F]_r.

Lemma tall_product : A *m B = Z.
Proof. by rewrite mul_mx_scalar scalerA mulfV ?gt_eqF // scale1r. Qed.

Lemma tall_valid : valid Z A B (c ^+ 2 + |[A]|) (c ^+ 2).
Proof.
have s_gt0 : 0 < |[A]|.
  by rewrite norm_gt0 scaler_eq0 invr_eq0 gt_eqF.
split=> [|dA dB|dA dB perp]; first by rewrite exprn_gt0.
  rewrite form_interpolation ?tall_product // /jacobian mul_mx_scalar norm_add innerZl.
  have le := norm_mul_le A dB; move: le; set Q := A *m dB => le.
  rewrite innerZl innerZr; set sg := |[A]| in s_gt0 le *.
  have cross := inner_le (sg *: dA) (c *: Q); rewrite !innerZl !innerZr in cross.
  rewrite -subr_ge0 -(pmulr_rge0 _ s_gt0).
  have -> : sg * ((c ^+ 2 + sg) * (|[dA]| + |[dB]|) - (c * (c * |[dA]|) + 2%:R * (c * <[dA, Q]>) + |[Q]|)) =
    (sg * (sg * |[dA]|) + c * (c * |[Q]|) - 2%:R * (sg * (c * <[dA, Q]>))) +
    (c ^+ 2 + sg) * (sg * |[dB]| - |[Q]|) by ring.
  by rewrite addr_ge0 ?subr_ge0 // mulr_ge0 ?subr_ge0 // addr_ge0 ?exprn_ge0 ?ltW.
have E : A^T *m dA = c *: dB.
  apply/eqP; rewrite -subr_eq0 -norm_eq0; set D := _ - _.
  have := perp _ _ (kernel_orbit_interpolation tall_product D).
  rewrite mul_mx_scalar innerNr innerZr -innerZl => zero.
  by rewrite {1}/D innerBl inner_mull trmxK zero.
pose W := c^-1 *: dA; have c0 : c != 0 by rewrite gt_eqF.
have EA : dA = c *: W by rewrite scalerA mulfV // scale1r.
have EB : dB = A^T *m W by rewrite -scalemxAr E scalerA mulVf // scale1r.
rewrite form_interpolation ?tall_product // /jacobian mul_mx_scalar.
have WJ : <[W, c *: dA + A *m dB]> = |[dA]| + |[dB]|.
  rewrite innerDr innerZr -innerZl -EA; congr (_ + _).
  by rewrite -{1}[A]trmxK -inner_mull -EB.
have := inner_le_weighted (c ^+ 2) W (c *: dA + A *m dB); rewrite WJ; set J := |[c *: _ + _]|.
have WW : c ^+ 2 * |[W]| = |[dA]| by rewrite expr2 -mulrA -innerZr -innerZl -EA.
have -> : (c ^+ 2) ^+ 2 * |[W]| = c ^+ 2 * |[dA]| by rewrite -WW mulrA -expr2.
move=> le; rewrite -(ler_add2l (c ^+ 2 * |[dA]|)); apply: le_trans le.
by rewrite -mulrA mulr_natl mulr2n ler_add2r ler_pmul2l ?exprn_gt0 // ler_addl norm_ge0.
Qed.

End Tall.

Section Transposed.

Variables (F : realFieldType) (a b r : nat) (Z : 'M[F]_(a, b)) (A : 'M[F]_(a, r)) (B : 'M[F]_(r, b)).

Lemma form_tr dA dB : form Z^T B^T A^T dB^T dA^T = form Z A B dA dB.
Proof.
by rewrite /form /jacobian -!trmx_mul -linearB -linearD /= !inner_tr addrC [in RHS]addrC [A *m dB + _]addrC.
Qed.

End Transposed.

Section TransposedValid.

Variables (F : realFieldType) (a b r : nat) (Z : 'M[F]_(a, b)) (A : 'M[F]_(a, r)) (B : 'M[F]_(r, b)).
Hypothesis AB : A *m B = Z.

Lemma valid_tr L mu : valid Z^T B^T A^T L mu -> valid Z A B L mu.
Proof.
case=> mu_gt0 smooth convex; split=> // dA dB.
  by rewrite -form_tr addrC -(inner_tr dA) -(inner_tr dB).
move=> perp; rewrite -form_tr addrC -(inner_tr dA) -(inner_tr dB); apply: convex => kA kB.
have AB' : B^T *m A^T = Z^T by rewrite -trmx_mul AB.
move/(kernel_interpolation AB' kA kB) => J0.
rewrite addrC -[kA]trmxK -[kB]trmxK !inner_tr; apply: perp; apply/kernel_interpolation => //.
by rewrite /jacobian -[LHS]trmxK linearD /= !trmx_mul !trmxK addrC -/(jacobian _ _ _ _) J0 trmx0.
Qed.

End TransposedValid.

Section Optimum.

Variable F : realFieldType.

Lemma optimum (sigma eps : F) : 0 <= sigma -> 0 < eps ->
  exists2 c, 0 < c & (c ^+ 2 + c^-1 * (c^-1 * sigma)) / c ^+ 2 <= 1 + eps.
Proof.
move=> sigma_ge0 eps_gt0; have q_ge0 : 0 <= sigma / eps by rewrite divr_ge0 // ltW.
have c_ge1 : 1 <= 1 + sigma / eps by rewrite ler_addl.
have c_gt0 : 0 < 1 + sigma / eps by apply: lt_le_trans c_ge1.
exists (1 + sigma / eps) => //; move: c_ge1 c_gt0; set c := 1 + _ => c_ge1 c_gt0.
have c0 : c != 0 by rewrite gt_eqF.
rewrite mulrDl divff ?expf_neq0 // ler_add2l.
have -> : c^-1 * (c^-1 * sigma) / c ^+ 2 = sigma / c ^+ 4 by field.
rewrite ler_pdivr_mulr ?exprn_gt0 // -ler_pdivr_mull //.
apply: le_trans (_ : c <= _); first by rewrite mulrC /c ler_addr ler01.
by rewrite -[X in X <= _]expr1; apply: ler_weexpn2l.
Qed.

Theorem full_rank_optimum m r : (0 < r)%N ->
  (forall Z : 'M[F]_(m, r), \rank Z = r ->
     (forall A B, A *m B = Z -> @kappa_at_least F m r r Z A B 1) /\
     (forall eps, 0 < eps -> exists A B, A *m B = Z /\ @kappa_at_most F m r r Z A B (1 + eps))) /\
  (forall Z : 'M[F]_(r, m), \rank Z = r ->
     (forall A B, A *m B = Z -> @kappa_at_least F r m r Z A B 1) /\
     (forall eps, 0 < eps -> exists A B, A *m B = Z /\ @kappa_at_most F r m r Z A B (1 + eps))).
Proof.
move=> r_gt0; have nonzero n l (Z : 'M[F]_(n, l)) : \rank Z = r -> Z != 0.
  by move=> rk; apply: contraTneq r_gt0 => Z0; rewrite -rk Z0 mxrank0.
split=> Z rk; have Z0 := nonzero _ _ _ rk; (split=> [A B AB|eps eps_gt0]; first exact: kappa_at_least_1).
  have [c c_gt0 le] := optimum (norm_ge0 Z) eps_gt0; exists (c^-1 *: Z), c%:M.
  split; first by rewrite tall_product.
  by exists (c ^+ 2 + |[c^-1 *: Z]|), (c ^+ 2); split; [exact: tall_valid|rewrite innerZl innerZr].
have [c c_gt0 le] := optimum (norm_ge0 Z) eps_gt0; exists c%:M, (c^-1 *: Z).
have AB : c%:M *m (c^-1 *: Z) = Z by rewrite mul_scalar_mx scalerA mulfV ?gt_eqF // scale1r.
split=> //; exists (c ^+ 2 + |[c^-1 *: Z]|), (c ^+ 2); split; last by rewrite innerZl innerZr.
apply: valid_tr => //; rewrite linearZ /= tr_scalar_mx -inner_tr linearZ /=; apply: tall_valid => //.
by rewrite -(inj_eq trmx_inj) trmxK trmx0.
Qed.

End Optimum.
