(* Square roots of positive semidefinite matrices, and what they say of a balanced pair and of a step from it.

   A is a x r, B is r x b, W = A B, G (a x b) the gradient of a loss of A B.

   - psd_root_unique:  two positive semidefinite matrices with the same square are equal.
   - balanced_roots:   if A^T A = B B^T, then A A^T = (W W^T)^(1/2) and B^T B = (W^T W)^(1/2).
   - intrinsic_step:   from a balanced pair (A - g G B^T)(B - g A^T G) =
                       W - g (G (W^T W)^(1/2) + (W W^T)^(1/2) G) + g^2 G W^T G.
   - refactored_step:  the same for RefLoRA's step from any pair, which scales the gradients by S^-1 and S, where S is
                       positive semidefinite and invertible and S A^T A S = B B^T.

   M^(1/2) is given as a positive semidefinite matrix whose square is M; it need not be known to exist. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From LoRA Require Import frobenius matrices.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Psd.

Variable F : realFieldType.
Implicit Types m n p : nat.

Definition psd n (P : 'M[F]_n) := P^T = P /\ forall x : 'cV_n, 0 <= <[x, P *m x]>.

(* `root P M`: P is the square root of M. *)
Definition root n (P M : 'M[F]_n) := psd P /\ P *m P = M.

Lemma inner_columns m n (A B : 'M[F]_(m, n)) : <[A, B]> = \sum_j <[col j A, col j B]>.
Proof.
rewrite -inner_tr innerE; apply: eq_bigr => j _; rewrite [RHS]innerE; apply: eq_bigr => i _.
by rewrite big_ord1 !mxE.
Qed.

Lemma psd_ge0 n p (P : 'M[F]_n) (X : 'M_(n, p)) : psd P -> 0 <= <[X, P *m X]>.
Proof.
case=> _ positive; rewrite inner_columns; apply: sumr_ge0 => j _.
by have -> : col j (P *m X) = P *m col j X by rewrite !colE mulmxA.
Qed.

Lemma gram_psd n p (K : 'M[F]_(n, p)) : psd (K *m K^T).
Proof. by split=> [|x]; [rewrite trmx_mul trmxK | rewrite -mulmxA -{1}[K]trmxK -inner_mull norm_ge0]. Qed.

(* Where the form vanishes, so does the matrix. *)
Lemma psd_kernel n p (P : 'M[F]_n) (X : 'M_(n, p)) : psd P -> <[X, P *m X]> = 0 -> P *m X = 0.
Proof.
move=> P_psd flat; have [P_sym _] := P_psd.
set u := |[P *m X]|; set v := <[P *m X, P *m (P *m X)]>.
have v_ge0 : 0 <= v by apply: psd_ge0.
have u_ge0 : 0 <= u by apply: norm_ge0.
have line t : 0 <= 2%:R * t * u + t ^+ 2 * v.
  have := psd_ge0 (X + t *: (P *m X)) P_psd.
  rewrite mulmxDr -scalemxAr innerDl !innerDr !innerZl !innerZr flat.
  have -> : <[X, P *m (P *m X)]> = u by rewrite -{1}P_sym -inner_mull.
  by rewrite add0r -/u -/v [X in _ -> 0 <= X](_ : _ = t * u + (t * u + t * (t * v))) //; ring.
have den : 0 < 1 + v by rewrite ltr_spaddl ?ltr01.
have := line (- (u / (1 + v))); rewrite -(pmulr_lge0 _ den) -(pmulr_lge0 _ den).
have -> : (2%:R * - (u / (1 + v)) * u + (- (u / (1 + v))) ^+ 2 * v) * (1 + v) * (1 + v) = - (u ^+ 2 * (2%:R + v)).
  by field; rewrite gt_eqF.
rewrite oppr_ge0 pmulr_lle0; last by rewrite ltr_spaddl ?ltr0n.
move=> square_le0; have : u ^+ 2 == 0 by rewrite eq_le square_le0 sqr_ge0.
by rewrite sqrf_eq0 norm_eq0 => /eqP.
Qed.

Theorem psd_root_unique n (P Q : 'M[F]_n) : psd P -> psd Q -> P *m P = Q *m Q -> P = Q.
Proof.
move=> P_psd Q_psd same; have [P_sym _] := P_psd; have [Q_sym _] := Q_psd.
pose E := P - Q; have E_sym : E^T = E by rewrite /E trmxB P_sym Q_sym.
have split0 : <[E, P *m E]> + <[E, Q *m E]> = 0.
  have -> : <[E, Q *m E]> = <[E, E *m Q]>.
    by rewrite -inner_tr E_sym trmx_mul E_sym Q_sym.
  rewrite -innerDr; have -> : P *m E + E *m Q = 0; last by rewrite inner0r.
  by rewrite /E; expand; rewrite same; collect.
have := split0; move/eqP; rewrite paddr_eq0 ?psd_ge0 // => /andP[/eqP PE /eqP QE].
have EE : E *m E = 0.
  by rewrite {1}/E mulmxBl (psd_kernel P_psd PE) (psd_kernel Q_psd QE) subrr.
have : |[E]| == 0 by rewrite /inner E_sym EE mxtrace0.
by rewrite norm_eq0 subr_eq0 => /eqP.
Qed.

Lemma root_unique n (P Q M : 'M[F]_n) : root P M -> root Q M -> P = Q.
Proof. by case=> P_psd PP [Q_psd QQ]; apply: psd_root_unique => //; rewrite PP QQ. Qed.

(* The form P^T S P of a positive semidefinite S. *)
Lemma psd_congruence n p (P : 'M[F]_(n, p)) (S : 'M_n) : psd S -> psd (P^T *m S *m P).
Proof.
move=> S_psd; have [S_sym _] := S_psd; split=> [|x]; first by rewrite !trmx_mul trmxK S_sym mulmxA.
by rewrite -2!mulmxA -inner_mull psd_ge0.
Qed.

Lemma diag_psd n (s : 'rV[F]_n) : (forall i, 0 <= s 0 i) -> psd (diag_mx s).
Proof.
move=> s_ge0; split=> [|x]; first by rewrite tr_diag_mx.
rewrite innerE; apply: sumr_ge0 => i _; apply: sumr_ge0 => j _.
by rewrite mul_diag_mx mxE mulrCA mulr_ge0 // -expr2 sqr_ge0.
Qed.

End Psd.

Section Steps.

Variables (F : realFieldType) (a b r : nat).
Variables (A : 'M[F]_(a, r)) (B : 'M[F]_(r, b)).

Let W := A *m B.

Theorem balanced_roots : A^T *m A = B *m B^T -> root (A *m A^T) (W *m W^T) /\ root (B^T *m B) (W^T *m W).
Proof.
move=> balanced; split; split; first exact: gram_psd; last 2 first.
- by rewrite -{2}[B]trmxK; apply: gram_psd.
- by rewrite /W trmx_mul !mulmxA -(mulmxA _ B) -balanced !mulmxA.
- by rewrite /W trmx_mul !mulmxA -(mulmxA _ A^T) balanced !mulmxA.
Qed.

Theorem intrinsic_step (L : 'M_a) (K : 'M_b) (G : 'M_(a, b)) g :
  A^T *m A = B *m B^T -> root L (W *m W^T) -> root K (W^T *m W) ->
  (A - g *: (G *m B^T)) *m (B - g *: (A^T *m G)) =
  W - g *: (G *m K + L *m G) + g ^+ 2 *: (G *m W^T *m G).
Proof.
move=> balanced rootL rootK; have [left right] := balanced_roots balanced.
rewrite (root_unique rootL left) (root_unique rootK right) /W.
by expand; rewrite scalerA -expr2; collect.
Qed.

(* RefLoRA's S = (A^T A)^-1 # (B B^T) is the positive definite solution of S A^T A S = B B^T. *)
Lemma refactored_roots (S : 'M_r) : psd S -> S \in unitmx -> S *m A^T *m A *m S = B *m B^T ->
  root (A *m S *m A^T) (W *m W^T) /\ root (B^T *m invmx S *m B) (W^T *m W).
Proof.
move=> S_psd S_unit mean; have [S_sym _] := S_psd.
have inverse_psd : psd (invmx S).
  have -> : invmx S = (invmx S)^T *m S *m invmx S by rewrite trmx_inv S_sym mulVmx // mul1mx.
  exact: psd_congruence.
split; split.
- by rewrite -{1}[A]trmxK; apply: psd_congruence.
- by rewrite /W trmx_mul !mulmxA -(mulmxA _ B) -mean !mulmxA.
- exact: psd_congruence.
by rewrite /W trmx_mul !mulmxA -(mulmxA _ B) -mean !mulmxA mulmxKV // mulmxK.
Qed.

Theorem refactored_step (L : 'M_a) (K : 'M_b) (G : 'M_(a, b)) (S : 'M_r) g :
  psd S -> S \in unitmx -> S *m A^T *m A *m S = B *m B^T -> root L (W *m W^T) -> root K (W^T *m W) ->
  (A - g *: (G *m B^T *m invmx S)) *m (B - g *: (S *m A^T *m G)) =
  W - g *: (G *m K + L *m G) + g ^+ 2 *: (G *m W^T *m G).
Proof.
move=> S_psd S_unit mean rootL rootK; have [left right] := refactored_roots S_psd S_unit mean.
rewrite (root_unique rootL left) (root_unique rootK right) /W.
by expand; rewrite scalerA -expr2 (mulmxKV S_unit); collect.
Qed.

End Steps.
