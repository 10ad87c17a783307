(* What the regularizer R = |B B^T - rho A^T A|^2 leaves of the freedom (A P, P^-1 B) at a minimizer of Model 1 with
   R = 0.

   - regularized_expansion: along (dA, dB) the second-order term of f + R there is 1/2 (H[dA, dB] + 2 |D1|^2), D1 the
     first-order change of B B^T - rho A^T A.
   - restricted_freedom: that vanishes, and else it is positive, if and only if dA = A W, dB = - W B with W = X - X^T
     for a strictly lower triangular X, and then for exactly one: the kernel has dimension r (r - 1) / 2. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From LoRA Require Import frobenius matrices square_roots model1 condition_number minimizers orbit.
From LoRA Require Import imbalance_regularization.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Form.

Variables (F : fieldType) (a b r : nat).
Implicit Types (Z : 'M[F]_(a, b)) (A dA : 'M[F]_(a, r)) (B dB : 'M[F]_(r, b)).

Definition imbalance_change rho A B dA dB : 'M[F]_r := gramB_change B dB - rho *: gramA_change A dA.
Definition regularized_form rho Z A B dA dB : F := form Z A B dA dB + 2%:R * |[imbalance_change rho A B dA dB]|.

Theorem regularized_expansion rho Z A B dA dB : 2%:R != 0 :> F -> B *m B^T = rho *: (A^T *m A) ->
  exists slope c3 c4, forall e,
    loss Z (A + e *: dA) (B + e *: dB) + penalty rho (A + e *: dA) (B + e *: dB) =
    loss Z A B + e * slope + e ^+ 2 * 2%:R^-1 * regularized_form rho Z A B dA dB + e ^+ 3 * c3 + e ^+ 4 * c4.
Proof.
move=> two flat; set D1 := imbalance_change rho A B dA dB; pose D2 := imbalance rho dA dB.
exists <[A *m B - Z, jacobian A B dA dB]>, (<[jacobian A B dA dB, dA *m dB]> + 2%:R * <[D1, D2]>),
  (2%:R^-1 * |[dA *m dB]| + |[D2]|) => e.
have -> : penalty rho (A + e *: dA) (B + e *: dB) = |[e *: D1 + e ^+ 2 *: D2]|.
  rewrite /penalty; suff -> : imbalance rho (A + e *: dA) (B + e *: dB) = e *: D1 + e ^+ 2 *: D2 by [].
  by rewrite /imbalance gramA_expansion gramB_expansion flat /D1 /D2 /imbalance_change /imbalance; collect.
rewrite loss_expansion // /regularized_form -/D1; move: D1 D2 => x y.
rewrite !innerDl !innerDr !innerZl !innerZr (innerC y x).
by field.
Qed.

End Form.

Section Freedom.

Variables (F : realFieldType) (r p q : nat) (Z : 'M[F]_(r + p, r + q)) (s : nat -> F).
Variables (U : 'M[F]_(r + p)) (V : 'M[F]_(r + q)) (A : 'M[F]_(r + p, r)) (B : 'M[F]_(r, r + q)) (rho : F).
Hypotheses (min : truncated Z s U V A B) (rho_gt0 : 0 < rho) (flat : B *m B^T = rho *: (A^T *m A)).

Lemma minimizer_form_ge0 dA dB : 0 <= form Z A B dA dB.
Proof.
have [A1 [B1 [AB -> -> ->]]] := canonical min; have [UU VV step s_ge0 _ s_gap _ _] := min.
rewrite (frameA UU dA) (frameB VV dB) form_frame //.
have [X1 [X2 [Y1 [Y2 [-> ->]]]]] := form_split (U^T *m dA) (dB *m V^T).
by rewrite form0 // addr_ge0 ?norm_ge0 ?(core_ge0 step).
Qed.

Lemma minimizer_form_eq0 dA dB : form Z A B dA dB = 0 -> in_kernel Z A B dA dB.
Proof.
have [A1 [B1 [AB -> -> ->]]] := canonical min; have [UU VV step s_ge0 _ s_gap _ _] := min.
rewrite (frameA UU dA) (frameB VV dB) form_frame //.
have [X1 [X2 [Y1 [Y2 [-> ->]]]]] := form_split (U^T *m dA) (dB *m V^T).
rewrite form0 // => /eqP; rewrite paddr_eq0 ?norm_ge0 ?(core_ge0 step) // norm_eq0.
case/andP => /eqP N /eqP /(core_eq0 step s_ge0 s_gap AB) [-> ->].
by apply: (in_kernel_frame UU VV _ _ _ _ _).2; apply/kernel0.
Qed.

Lemma left_free (W W' : 'M[F]_r) : A *m W = A *m W' -> W = W'.
Proof.
have [A1 [B1 [AB -> _ _]]] := canonical min; have [UU VV step s_ge0 _ s_gap _ _] := min.
move/(congr1 (mulmx U^T)); rewrite !mulmxA UU !mul1mx !mul_col_mx !mul0mx => /eq_col_mx [E _].
by rewrite -(mulKmx (A1_unit step s_ge0 s_gap AB) W) E mulKmx // (A1_unit step s_ge0 s_gap AB).
Qed.

(* What a direction of the orbit does to the imbalance. *)
Lemma orbit_change (W : 'M[F]_r) :
  imbalance_change rho A B (A *m W) (- (W *m B)) = - ((W + W^T) *m (B *m B^T) + (B *m B^T) *m (W + W^T)).
Proof.
rewrite /imbalance_change /gramB_change /gramA_change.
have -> : rho *: (A^T *m (A *m W) + (A *m W)^T *m A) = (rho *: (A^T *m A)) *m W + W^T *m (rho *: (A^T *m A)).
  by rewrite trmx_mul scalerDr -scalemxAl -scalemxAr !mulmxA.
by rewrite -flat; expand; collect.
Qed.

Lemma gram_positive (X : 'M[F]_r) : <[X, (B *m B^T) *m X]> = 0 -> X = 0.
Proof.
have [A1 [B1 [AB _ -> _]]] := canonical min; have [UU VV step s_ge0 _ s_gap _ _] := min.
have B1u : B1^T \in unitmx by rewrite unitmx_tr (B1_unit step s_ge0 s_gap AB).
rewrite trmx_mul !mulmxA -(mulmxA _ V) VV mulmx1 tr_row_mx mul_row_col trmx0 mulmx0 addr0.
rewrite -mulmxA -{1}[B1]trmxK -inner_mull => /eqP; rewrite norm_eq0 => /eqP E.
by rewrite -(mulKmx B1u X) E mulmx0.
Qed.

Definition strictly_lower (X : 'M[F]_r) := forall i j : 'I_r, (i <= j)%N -> X i j = 0.

Lemma skew_lower (W : 'M[F]_r) : W + W^T = 0 -> exists! X, strictly_lower X /\ W = X - X^T.
Proof.
move=> skew; have opposite i j : W i j = - W j i.
  have /matrixP/(_ i j) := skew; rewrite !mxE => /eqP; rewrite addr_eq0 => /eqP; exact.
have diag0 i : W i i = 0.
  have /eqP := opposite i i; rewrite -subr_eq0 opprK -mulr2n -mulr_natr mulf_eq0 pnatr_eq0 orbF => /eqP; exact.
exists (\matrix_(i, j) (W i j *+ (j < i)%N)); split.
  split=> [i j ij|]; first by rewrite mxE ltnNge ij mulr0n.
  apply/matrixP => i j; rewrite !mxE; case: ltngtP => [ij|ji|/val_inj ->].
  - by rewrite mulr0n subr0 mulr1n.
  - by rewrite mulr0n sub0r mulr1n opposite.
  by rewrite diag0 subrr.
move=> X [lower WE]; apply/matrixP => i j; rewrite mxE WE !mxE.
case: ltngtP => [ij|ji|/val_inj ->]; rewrite ?mulr0n ?mulr1n.
- by rewrite (lower j i) ?subr0 // ltnW.
- by rewrite lower // ltnW.
by rewrite lower.
Qed.

Theorem restricted_freedom dA dB :
  0 <= regularized_form rho Z A B dA dB /\
  (regularized_form rho Z A B dA dB = 0 <->
   exists! X, [/\ strictly_lower X, dA = A *m (X - X^T) & dB = - ((X - X^T) *m B)]).
Proof.
have form_ge0 := minimizer_form_ge0 dA dB.
have change_ge0 : 0 <= 2%:R * |[imbalance_change rho A B dA dB]| by rewrite mulr_ge0 ?ler0n ?norm_ge0.
split; first by rewrite addr_ge0.
split=> [| [X [[lower -> ->] _]]].
  move/eqP; rewrite paddr_eq0 // mulf_eq0 pnatr_eq0 orFb norm_eq0 => /andP[/eqP flat0 /eqP change0].
  have [W [[AW BW] _]] := (kernel_orbit min dA dB).1 (minimizer_form_eq0 flat0).
  rewrite AW BW orbit_change in change0; pose X := W + W^T.
  have X_sym : X^T = X by rewrite /X trmxD trmxK addrC.
  have twice : 2%:R * <[X, (B *m B^T) *m X]> = 0.
    have -> : 2%:R * <[X, (B *m B^T) *m X]> = <[X, X *m (B *m B^T) + (B *m B^T) *m X]>.
      rewrite innerDr; have -> : <[X, X *m (B *m B^T)]> = <[X, (B *m B^T) *m X]>.
        by rewrite -inner_tr !trmx_mul trmxK X_sym.
      by ring.
    by move/eqP: change0; rewrite oppr_eq0 -/X => /eqP ->; rewrite inner0r.
  have X0 : X = 0.
    by apply: gram_positive; move/eqP: twice; rewrite mulf_eq0 pnatr_eq0 => /eqP.
  have [Y [[lower WE] unique]] := skew_lower X0.
  exists Y; split=> [|Y' [lower' AY BY]]; first by rewrite -WE.
  by apply: unique; split=> //; apply: left_free; rewrite -AW AY.
rewrite /regularized_form; have -> : form Z A B (A *m (X - X^T)) (- ((X - X^T) *m B)) = 0.
  rewrite form_hessian; have [-> ->] : in_kernel Z A B (A *m (X - X^T)) (- ((X - X^T) *m B)).
    apply/(kernel_orbit min); exists (X - X^T); split=> // W [AW _]; exact: left_free.
  by rewrite !inner0r addr0.
rewrite orbit_change trmxB trmxK addrA subrK subrr mul0mx mulmx0 addr0 oppr0 inner0r.
by rewrite mulr0 addr0.
Qed.

End Freedom.
