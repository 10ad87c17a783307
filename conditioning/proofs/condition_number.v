(* kappa = L / mu of a pair for Model 1, without eigenvalues, and what orthogonal changes of frame leave alone.

   - in_kernel Z A B dA dB: the Hessian takes (dA, dB) to 0.
   - valid Z A B L mu: 0 < mu, H[d] <= L |d|^2 for all d, and mu |d|^2 <= H[d] for all d orthogonal to the kernel.
   - kappa_at_least Z A B c: c <= L / mu for all valid L and mu.   kappa_at_most Z A B c: L / mu <= c for some.
   - largest A alpha: alpha = s_1(A)^2, the largest of |A w|^2 / |w|^2, attained; smallest A alpha: s_r(A)^2, the smallest.
   - valid_frame: (U Z V, U A, B V) with orthogonal U and V has the valid constants of (Z, A, B). *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From LoRA Require Import frobenius model1.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section ConditionNumber.

Variables (F : realFieldType) (a b r : nat).
Implicit Types (Z : 'M[F]_(a, b)) (A dA : 'M[F]_(a, r)) (B dB : 'M[F]_(r, b)) (L mu c : F).

Definition in_kernel Z A B dA dB : Prop := hessianA Z A B dA dB = 0 /\ hessianB Z A B dA dB = 0.

Definition orthogonal_to_kernel Z A B dA dB : Prop :=
  forall kA kB, in_kernel Z A B kA kB -> <[dA, kA]> + <[dB, kB]> = 0.

Definition valid Z A B L mu : Prop :=
  [/\ 0 < mu,
      forall dA dB, form Z A B dA dB <= L * (|[dA]| + |[dB]|) &
      forall dA dB, orthogonal_to_kernel Z A B dA dB -> mu * (|[dA]| + |[dB]|) <= form Z A B dA dB].

Definition kappa_at_least Z A B c : Prop := forall L mu, valid Z A B L mu -> c <= L / mu.
Definition kappa_at_most Z A B c : Prop := exists L mu, valid Z A B L mu /\ L / mu <= c.
Definition kappa_is Z A B c : Prop := kappa_at_least Z A B c /\ kappa_at_most Z A B c.

End ConditionNumber.

Section SingularValues.

Variable F : realFieldType.
Implicit Types m n : nat.

Definition largest m n (A : 'M[F]_(m, n)) (alpha : F) : Prop :=
  (forall w : 'cV_n, |[A *m w]| <= alpha * |[w]|) /\ (exists2 w : 'cV_n, w != 0 & |[A *m w]| = alpha * |[w]|).

Definition smallest m n (A : 'M[F]_(m, n)) (alpha : F) : Prop :=
  (forall w : 'cV_n, alpha * |[w]| <= |[A *m w]|) /\ (exists2 w : 'cV_n, w != 0 & |[A *m w]| = alpha * |[w]|).

Lemma col_mul m n l (A : 'M[F]_(m, n)) (w : 'M_(n, l)) j : col j (A *m w) = A *m col j w.
Proof. by apply/matrixP => i k; rewrite !mxE; apply: eq_bigr => h _; rewrite mxE. Qed.

Lemma bound_above m n l (A : 'M[F]_(m, n)) alpha (w : 'M_(n, l)) :
  (forall v : 'cV_n, |[A *m v]| <= alpha * |[v]|) -> |[A *m w]| <= alpha * |[w]|.
Proof.
by move=> le; rewrite (norm_col w) (norm_col (A *m w)) mulr_sumr; apply: ler_sum => j _; rewrite col_mul.
Qed.

Lemma bound_below m n l (A : 'M[F]_(m, n)) alpha (w : 'M_(n, l)) :
  (forall v : 'cV_n, alpha * |[v]| <= |[A *m v]|) -> alpha * |[w]| <= |[A *m w]|.
Proof.
by move=> ge; rewrite (norm_col w) (norm_col (A *m w)) mulr_sumr; apply: ler_sum => j _; rewrite col_mul.
Qed.

Lemma largest_ge0 m n (A : 'M[F]_(m, n)) alpha : largest A alpha -> 0 <= alpha.
Proof. by case=> _ [w w0 E]; rewrite -(@pmulr_lge0 _ |[w]|) ?norm_gt0 // -E norm_ge0. Qed.

End SingularValues.

Section Frame.

(* Orthogonal changes of frame, (U Z V, U A, B V) for (Z, A, B), change nothing. *)

Variables (F : realFieldType) (a b r : nat) (U : 'M[F]_a) (V : 'M[F]_b).
Hypotheses (UU : U^T *m U = 1%:M) (VV : V *m V^T = 1%:M).
Implicit Types (Z : 'M[F]_(a, b)) (A dA : 'M[F]_(a, r)) (B dB : 'M[F]_(r, b)).

Lemma UU' : U *m U^T = 1%:M. Proof. exact: mulmx1C. Qed.
Lemma VV' : V^T *m V = 1%:M. Proof. exact: mulmx1C. Qed.

Lemma jacobian_frame A B dA dB : jacobian (U *m A) (B *m V) (U *m dA) (dB *m V) = U *m jacobian A B dA dB *m V.
Proof. by rewrite /jacobian mulmxDr mulmxDl !mulmxA. Qed.

Lemma residual_frame Z A B : U *m A *m (B *m V) - U *m Z *m V = U *m (A *m B - Z) *m V.
Proof. by rewrite mulmxBr mulmxBl !mulmxA. Qed.

Lemma form_frame Z A B dA dB :
  form (U *m Z *m V) (U *m A) (B *m V) (U *m dA) (dB *m V) = form Z A B dA dB.
Proof.
rewrite /form.
have -> : U *m dA *m (dB *m V) = U *m (dA *m dB) *m V by rewrite !mulmxA.
by rewrite jacobian_frame residual_frame !inner_orthor // !inner_orthol.
Qed.

Lemma hessianA_frame Z A B dA dB :
  hessianA (U *m Z *m V) (U *m A) (B *m V) (U *m dA) (dB *m V) = U *m hessianA Z A B dA dB.
Proof.
rewrite /hessianA jacobian_frame residual_frame !trmx_mul [RHS]mulmxDr.
by congr (_ + _); rewrite -!mulmxA (mulmxA V) VV mul1mx.
Qed.

Lemma hessianB_frame Z A B dA dB :
  hessianB (U *m Z *m V) (U *m A) (B *m V) (U *m dA) (dB *m V) = hessianB Z A B dA dB *m V.
Proof.
rewrite /hessianB jacobian_frame residual_frame !trmx_mul [RHS]mulmxDl.
by congr (_ + _); rewrite !mulmxA -(mulmxA _ U^T) UU mulmx1.
Qed.

Lemma in_kernel_frame Z A B dA dB :
  in_kernel (U *m Z *m V) (U *m A) (B *m V) (U *m dA) (dB *m V) <-> in_kernel Z A B dA dB.
Proof.
rewrite /in_kernel hessianA_frame hessianB_frame.
split=> [] [zA zB]; last by rewrite zA zB mulmx0 mul0mx.
by rewrite -[hessianA _ _ _ _ _]mul1mx -UU -mulmxA zA mulmx0 -[hessianB _ _ _ _ _]mulmx1 -VV mulmxA zB mul0mx.
Qed.

Lemma frameA dA : dA = U *m (U^T *m dA). Proof. by rewrite mulmxA UU' mul1mx. Qed.
Lemma frameB dB : dB = dB *m V^T *m V. Proof. by rewrite -mulmxA VV' mulmx1. Qed.

Lemma orthogonal_frame Z A B dA dB :
  orthogonal_to_kernel (U *m Z *m V) (U *m A) (B *m V) (U *m dA) (dB *m V) <-> orthogonal_to_kernel Z A B dA dB.
Proof.
split=> perp kA kB ker.
  by rewrite -(inner_orthol _ _ UU) -(inner_orthor dB _ VV); apply: perp; exact: (in_kernel_frame Z A B kA kB).2.
rewrite (frameA kA) (frameB kB) inner_orthol // inner_orthor //; apply: perp.
by apply: (in_kernel_frame Z A B _ _).1; rewrite -(frameA kA) -(frameB kB).
Qed.

Lemma valid_frame Z A B L mu : valid (U *m Z *m V) (U *m A) (B *m V) L mu <-> valid Z A B L mu.
Proof.
split=> [] [mu_gt0 smooth convex]; split=> // dA dB.
- by move: (smooth (U *m dA) (dB *m V)); rewrite form_frame inner_orthol // inner_orthor.
- move=> perp; move: (convex (U *m dA) (dB *m V)); rewrite form_frame inner_orthol // inner_orthor //.
  by apply; apply: (orthogonal_frame Z A B dA dB).2.
- by rewrite (frameA dA) (frameB dB) form_frame inner_orthol // inner_orthor //; apply: smooth.
rewrite (frameA dA) (frameB dB) form_frame inner_orthol // inner_orthor // => perp; apply: convex.
exact: (orthogonal_frame Z A B _ _).1 perp.
Qed.

End Frame.

