(* Model 1, f(A, B) = 1/2 |Z - A B|^2: the loss, its Hessian, and what every pair (A, B) has, minimizer or not.

   Over any commutative ring in which 2 may be divided by: a = rows of A, b = columns of B, r = columns of A.

   - loss_invariant:  f(A R, R^-1 B) = f(A, B) for every invertible R.
   - loss_expansion:  f(A + e dA, B + e dB) = f(A, B) + e df + e^2/2 H[dA, dB] + e^3 (...) + e^4 (...), which says that
     `form`, H[dA, dB] = |dA B + A dB|^2 + 2 <A B - Z, dA dB>, is the Hessian's quadratic form.
   - form_hessian:    H[d] = <d, H d> with H d = `hessian`, and H is symmetric: it is the Hessian itself. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From LoRA Require Import frobenius.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Model1.

Variables (F : fieldType) (a b r : nat).
Implicit Types (Z : 'M[F]_(a, b)) (A dA : 'M[F]_(a, r)) (B dB : 'M[F]_(r, b)).

Definition loss Z A B : F := 2%:R^-1 * |[Z - A *m B]|.

(* The derivative of A B in the direction (dA, dB). *)
Definition jacobian A B dA dB : 'M[F]_(a, b) := dA *m B + A *m dB.

Definition form Z A B dA dB : F := |[jacobian A B dA dB]| + 2%:R * <[A *m B - Z, dA *m dB]>.

(* The two blocks of the Hessian times a direction. *)
Definition hessianA Z A B dA dB : 'M[F]_(a, r) := jacobian A B dA dB *m B^T + (A *m B - Z) *m dB^T.
Definition hessianB Z A B dA dB : 'M[F]_(r, b) := A^T *m jacobian A B dA dB + dA^T *m (A *m B - Z).

Theorem loss_invariant Z A B (P : 'M[F]_r) : P \in unitmx -> loss Z (A *m P) (invmx P *m B) = loss Z A B.
Proof. by move=> Pu; rewrite /loss mulmxA (mulmxK Pu). Qed.

Lemma loss_polynomial (e xx xy xc yy yc cc : F) : 2%:R != 0 :> F ->
  2%:R^-1 * (xx + e * xy + e * e * xc + (e * xy + e * (e * yy) + e * e * (e * yc))
             + (e * e * xc + e * (e * e * yc) + e * e * (e * e * cc))) =
  2%:R^-1 * xx + e * xy + e ^+ 2 * 2%:R^-1 * (yy + 2%:R * xc) + e ^+ 3 * yc + e ^+ 4 * 2%:R^-1 * cc.
Proof. by move=> two; field. Qed.

Theorem loss_expansion Z A B dA dB (e : F) : 2%:R != 0 :> F ->
  loss Z (A + e *: dA) (B + e *: dB) =
    loss Z A B + e * <[A *m B - Z, jacobian A B dA dB]> + e ^+ 2 * 2%:R^-1 * form Z A B dA dB
    + e ^+ 3 * <[jacobian A B dA dB, dA *m dB]> + e ^+ 4 * 2%:R^-1 * |[dA *m dB]|.
Proof.
move=> two; rewrite /loss /form.
have -> : Z - (A + e *: dA) *m (B + e *: dB) =
    - ((A *m B - Z) + e *: jacobian A B dA dB + (e * e) *: (dA *m dB)).
  rewrite /jacobian mulmxDl !mulmxDr -!scalemxAl -!scalemxAr scalerA scalerDr.
  move: (A *m B) (dA *m B) (A *m dB) (dA *m dB) => w x y z.
  by rewrite !opprD opprK !addrA [LHS](ACl (2 * 1 * 4 * 3 * 5)).
have -> : Z - A *m B = - (A *m B - Z) by rewrite opprB.
move: (A *m B - Z) (jacobian A B dA dB) (dA *m dB) => x y c.
rewrite !innerNl !innerNr !opprK -(loss_polynomial _ _ _ _ _ _ _ two) !innerDl !innerDr !innerZl !innerZr.
by rewrite (innerC y x) (innerC c x) (innerC c y); congr (_ * _); ring.
Qed.

Theorem form_hessian Z A B dA dB :
  form Z A B dA dB = <[dA, hessianA Z A B dA dB]> + <[dB, hessianB Z A B dA dB]>.
Proof.
rewrite /form /hessianA /hessianB {1}/jacobian.
move: (jacobian A B dA dB) (A *m B - Z) => y x.
rewrite !innerDr mulr2n mulrDl mul1r innerDl [in RHS]addrACA; congr (_ + _ + (_ + _)).
- by rewrite inner_mulr innerC inner_mulr.
- by rewrite inner_mull.
- by rewrite innerC inner_mulr.
- by rewrite innerC inner_mull.
Qed.

End Model1.
