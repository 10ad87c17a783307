(* Imbalance regularization (iLoRA): what a step of GD, of scaled GD and of the regularizer does to A^T A and B B^T.

   A is a x r, B is r x b, G (a x b) is the gradient of any loss of A B, D = B B^T - rho A^T A, R = |D|^2.

   - gd_proportion: for dA = - G B^T and dB = - A^T G, the first-order changes agree: d(B B^T) = d(A^T A).
   - two_rates_proportion: with learning rates eta for A and mu eta for B, d(B B^T) = mu d(A^T A).
   - scaled_defect: for dA = - G B^T (B B^T)^-1 and dB = - (A^T A)^-1 A^T G, where B B^T = mu A^T A,
     d(B B^T) - mu d(A^T A) = (K - K^T) M^-1 - M^-1 (K - K^T) with K = A^T G B^T and M = A^T A.
   - scaled_trace, scaled_diagonal: the traces agree, and the diagonals in every common orthonormal eigenbasis.
   - gradient_constant: the regularizer's update (A + step rho A D, B - step D B) is -(step/4) times the gradient of R.
   - penalty_leaves_scale: where B B^T = mu A^T A, |A B|^2 = mu |A^T A|^2, and c A has c^4 times that |A^T A|^2.
   - product_change: it changes A B by - step (1 - rho) A D B - step^2 rho A D^2 B.

   gramA_expansion and gramB_expansion say what "first-order change" means. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From LoRA Require Import frobenius matrices.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

(* First-order changes of the Gram matrices A^T A and B B^T along dA and dB. *)
Definition gramA_change (R : comRingType) a r (A dA : 'M[R]_(a, r)) : 'M_r := A^T *m dA + dA^T *m A.
Definition gramB_change (R : comRingType) r b (B dB : 'M[R]_(r, b)) : 'M_r := dB *m B^T + B *m dB^T.

Section Gradient.

Variables (R : comRingType) (a b r : nat).
Implicit Types (A dA : 'M[R]_(a, r)) (B dB : 'M[R]_(r, b)) (G : 'M[R]_(a, b)).

Lemma gramA_expansion A dA (e : R) :
  (A + e *: dA)^T *m (A + e *: dA) = A^T *m A + e *: gramA_change A dA + e ^+ 2 *: (dA^T *m dA).
Proof. by rewrite /gramA_change; expand; rewrite scalerA -expr2; collect. Qed.

Lemma gramB_expansion B dB (e : R) :
  (B + e *: dB) *m (B + e *: dB)^T = B *m B^T + e *: gramB_change B dB + e ^+ 2 *: (dB *m dB^T).
Proof. by rewrite /gramB_change; expand; rewrite scalerA -expr2; collect. Qed.

Theorem gd_proportion A B G : gramB_change B (- (A^T *m G)) = gramA_change A (- (G *m B^T)).
Proof. by rewrite /gramA_change /gramB_change; expand; collect. Qed.

Theorem two_rates_proportion A B G eta mu :
  gramB_change B (- ((mu * eta) *: (A^T *m G))) = mu *: gramA_change A (- (eta *: (G *m B^T))).
Proof. by rewrite /gramA_change /gramB_change; expand; rewrite scalerDr !scalerN !scalerA; collect. Qed.

End Gradient.

Section Scaled.

Variables (F : fieldType) (a b r : nat).
Variables (A : 'M[F]_(a, r)) (B : 'M[F]_(r, b)) (G : 'M[F]_(a, b)) (mu : F).
Hypotheses (rankA : A^T *m A \in unitmx) (rankB : B *m B^T \in unitmx).
Hypothesis proportional : B *m B^T = mu *: (A^T *m A).

Let M := A^T *m A.
Let K := A^T *m G *m B^T.
Let dA := - (G *m B^T *m invmx (B *m B^T)).
Let dB := - (invmx (A^T *m A) *m A^T *m G).

Lemma inverse_proportional : mu *: invmx (B *m B^T) = invmx M.
Proof.
have [mu0|mu_neq0] := eqVneq mu 0; last first.
  by rewrite proportional invmxZ ?scalerA ?mulfV ?scale1r // -proportional.
have zero : B *m B^T = 0 by rewrite proportional mu0 scale0r.
have one0 : (1%:M : 'M[F]_r) = 0 by rewrite -(mulmxV rankB) {1}zero mul0mx.
by rewrite -[LHS]mul1mx -[RHS]mul1mx one0 !mul0mx.
Qed.

Lemma inverse_symmetric : (invmx M)^T = invmx M.
Proof. by rewrite trmx_inv /M trmx_mul trmxK. Qed.

Theorem scaled_defect :
  gramB_change B dB - mu *: gramA_change A dA = (K - K^T) *m invmx M - invmx M *m (K - K^T).
Proof.
have inverse_B : (invmx (B *m B^T))^T = invmx (B *m B^T) by rewrite trmx_inv trmx_mul trmxK.
have changeB : gramB_change B dB = - (invmx M *m K + K^T *m invmx M).
  by rewrite /gramB_change /dB /K; expand; rewrite -/M inverse_symmetric; collect.
have changeA : mu *: gramA_change A dA = - (K *m invmx M + invmx M *m K^T).
  by rewrite -inverse_proportional /gramA_change /dA /K; expand; rewrite inverse_B; collect.
by rewrite changeA changeB; expand; collect.
Qed.

Theorem scaled_trace : \tr (gramB_change B dB) = mu * \tr (gramA_change A dA).
Proof.
apply/eqP; rewrite -subr_eq0 -mxtraceZ -raddfB /= scaled_defect raddfB /=.
by rewrite mxtrace_mulC subrr.
Qed.

(* The columns of Q are a common eigenbasis: Q is orthogonal and Q^T (A^T A) Q diagonal. *)
Theorem scaled_diagonal (Q : 'M[F]_r) (s : 'rV_r) i : Q^T *m Q = 1%:M -> Q^T *m (A^T *m A) *m Q = diag_mx s ->
  (Q^T *m gramB_change B dB *m Q) i i = mu * (Q^T *m gramA_change A dA *m Q) i i.
Proof.
move=> QQ diagonal.
have cancel (X : 'M_r) : X *m Q *m Q^T = X by rewrite -mulmxA (mulmx1C QQ) mulmx1.
apply/eqP; rewrite -subr_eq0; apply/eqP.
have -> : (Q^T *m gramB_change B dB *m Q) i i - mu * (Q^T *m gramA_change A dA *m Q) i i =
    (Q^T *m (gramB_change B dB - mu *: gramA_change A dA) *m Q) i i.
  by rewrite mulmxBr mulmxBl -scalemxAr -scalemxAl [in RHS]mxE [X in _ = _ + X]mxE [X in _ = _ - X]mxE.
set N := Q^T *m (K - K^T) *m Q; set W := Q^T *m invmx M *m Q.
have -> : Q^T *m (gramB_change B dB - mu *: gramA_change A dA) *m Q = N *m W - W *m N.
  by rewrite scaled_defect mulmxBr mulmxBl /N /W !mulmxA !cancel.
have inverse : W *m diag_mx s = 1%:M.
  have cancelM := mulVmx rankA; rewrite mulmxA in cancelM.
  by rewrite -diagonal /W !mulmxA cancel -2!(mulmxA Q^T) cancelM mulmx1.
have s_unit k : s 0 k != 0.
  apply/eqP => sk; have := congr1 (fun X : 'M_r => X k k) inverse.
  by rewrite mul_mx_diag !mxE eqxx sk mulr0 => /eqP; rewrite eq_sym oner_eq0.
have off k j : k != j -> W k j = 0.
  move=> kj; have := congr1 (fun X : 'M_r => X k j) inverse.
  by rewrite mul_mx_diag !mxE (negPf kj) => /eqP; rewrite mulf_eq0 (negPf (s_unit j)) orbF => /eqP.
rewrite !mxE (bigD1 i) //= [X in _ + X - _]big1 ?[X in _ - X](bigD1 i) //= ?[X in _ - (_ + X)]big1 //.
- by rewrite !addr0 mulrC subrr.
- by move=> k ki; rewrite off ?mul0r // eq_sym.
- by move=> k ki; rewrite (off k i) ?mulr0.
Qed.

End Scaled.

Section Regularizer.

Variables (R : comRingType) (a b r : nat).
Implicit Types (A dA : 'M[R]_(a, r)) (B dB : 'M[R]_(r, b)).

Definition imbalance rho A B : 'M[R]_r := B *m B^T - rho *: (A^T *m A).
Definition penalty rho A B : R := |[imbalance rho A B]|.
Definition updateA step rho A B : 'M[R]_(a, r) := A + (step * rho) *: (A *m imbalance rho A B).
Definition updateB step rho A B : 'M[R]_(r, b) := B - step *: (imbalance rho A B *m B).

Lemma imbalance_symmetric rho A B : (imbalance rho A B)^T = imbalance rho A B.
Proof. by rewrite /imbalance; expand. Qed.

(* step times the derivative of R along (dA, dB), which is the coefficient of e, is -4 times the update along it. *)
Theorem gradient_constant step rho A B dA dB : exists slope c2 c3 c4 : R,
  (forall e, penalty rho (A + e *: dA) (B + e *: dB) =
     penalty rho A B + e * slope + e ^+ 2 * c2 + e ^+ 3 * c3 + e ^+ 4 * c4)
  /\ step * slope = - 4%:R * (<[updateA step rho A B - A, dA]> + <[updateB step rho A B - B, dB]>).
Proof.
set D := imbalance rho A B.
pose D1 := gramB_change B dB - rho *: gramA_change A dA; pose D2 := imbalance rho dA dB.
exists (2%:R * <[D, D1]>), (|[D1]| + 2%:R * <[D, D2]>), (2%:R * <[D1, D2]>), |[D2]|; split=> [e|].
  have -> : penalty rho (A + e *: dA) (B + e *: dB) = |[D + e *: D1 + e ^+ 2 *: D2]|.
    rewrite /penalty; suff -> : imbalance rho (A + e *: dA) (B + e *: dB) = D + e *: D1 + e ^+ 2 *: D2 by [].
    by rewrite /imbalance gramA_expansion gramB_expansion /D /D1 /D2 /imbalance; collect.
  rewrite /penalty -/D; move: D D1 D2 => x y z.
  by rewrite !innerDl !innerDr !innerZl !innerZr (innerC y x) (innerC z x) (innerC z y); ring.
have D_tr : D^T = D by apply: imbalance_symmetric.
have -> : updateA step rho A B - A = (step * rho) *: (A *m D) by rewrite /updateA addrC addKr.
have -> : updateB step rho A B - B = - (step *: (D *m B)) by rewrite /updateB addrC addKr.
have -> : <[D, D1]> = 2%:R * <[D *m B, dB]> - rho * (2%:R * <[A *m D, dA]>).
  rewrite /D1 /gramA_change /gramB_change innerBr innerZr !innerDr.
  have -> : <[D, dB *m B^T]> = <[D *m B, dB]> by rewrite inner_mulr.
  have -> : <[D, B *m dB^T]> = <[D *m B, dB]> by rewrite -inner_tr D_tr trmx_mul trmxK inner_mulr.
  have -> : <[D, A^T *m dA]> = <[A *m D, dA]> by rewrite inner_mull.
  have -> : <[D, dA^T *m A]> = <[A *m D, dA]> by rewrite -inner_tr D_tr trmx_mul trmxK inner_mull.
  by ring.
by rewrite innerNl !innerZl; ring.
Qed.

Theorem penalty_leaves_scale A B mu : B *m B^T = mu *: (A^T *m A) ->
  |[A *m B]| = mu * |[A^T *m A]| /\ forall c, |[(c *: A)^T *m (c *: A)]| = c ^+ 4 * |[A^T *m A]|.
Proof.
move=> flat; split=> [|c].
  by rewrite inner_mulr -mulmxA flat -scalemxAr innerZr; congr (_ * _); rewrite [RHS]inner_mull trmxK.
by rewrite trmxZ -scalemxAl -scalemxAr scalerA innerZl innerZr; ring.
Qed.

Theorem product_change step rho A B :
  updateA step rho A B *m updateB step rho A B - A *m B =
  - (step * (1 - rho)) *: (A *m imbalance rho A B *m B)
  - (step ^+ 2 * rho) *: (A *m imbalance rho A B *m imbalance rho A B *m B).
Proof.
rewrite /updateA /updateB; move: (imbalance rho A B) => D.
by expand; rewrite scalerA; collect.
Qed.

End Regularizer.
