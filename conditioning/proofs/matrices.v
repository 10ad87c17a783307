(* Identities between matrices: a tactic for products and sums, and what the proofs about square roots share.

   `expand` multiplies out and moves transposes to the factors; `collect` closes an equation between sums of multiples
   of the same products. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From LoRA Require Import frobenius.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Transpose.

Variables (R : comRingType) (m n : nat).
Implicit Types A B : 'M[R]_(m, n).

Lemma trmxD A B : (A + B)^T = A^T + B^T. Proof. exact: raddfD. Qed.
Lemma trmxN A : (- A)^T = - A^T. Proof. exact: raddfN. Qed.
Lemma trmxB A B : (A - B)^T = A^T - B^T. Proof. exact: raddfB. Qed.
Lemma trmxZ c A : (c *: A)^T = c *: A^T. Proof. exact: linearZ. Qed.

End Transpose.

Ltac transpose := rewrite ?(trmxD, trmxB, trmxN, trmxZ, trmx_mul, trmxK, trmx1, trmx0, tr_diag_mx, tr_scalar_mx).
Ltac multiply := rewrite ?(mulmxDl, mulmxDr, mulmxBl, mulmxBr, mulmxN, mulNmx, mul0mx, mulmx0, mul1mx, mulmx1, mulmxA)
  -?(scalemxAl, scalemxAr).
Ltac expand := transpose; do 3 multiply.

Ltac name_products := repeat match goal with |- context [@mulmx ?R ?m ?n ?p ?A ?B] =>
    match goal with
    | x := ?t |- _ => unify t (@mulmx R m n p A B); change (@mulmx R m n p A B) with x
    | _ => let x := fresh "P" in pose x := @mulmx R m n p A B
    end
  end; repeat match goal with x := @mulmx _ _ _ _ _ _ |- _ => clearbody x end.

Ltac name_entries := repeat match goal with |- context [@fun_of_matrix ?T ?m ?n ?X ?i ?j] =>
    match goal with
    | x := @fun_of_matrix _ _ _ X i j |- _ => change (@fun_of_matrix T m n X i j) with x
    | _ => let x := fresh "x" in pose x := @fun_of_matrix T m n X i j
    end
  end; repeat match goal with x := @fun_of_matrix _ _ _ _ _ _ |- _ => clearbody x end.

Ltac collect := name_products; let i := fresh "i" in let j := fresh "j" in
  apply/matrixP => i j; rewrite !mxE; name_entries; ring.
