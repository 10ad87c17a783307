(* What the hyperbalanced manifold reaches, over any real closed field, the real numbers among them.

   - projection_exists: P(A, B) exists wherever A B has rank r, the number of columns of A.
   - reachable_set:     the products of hyperbalanced pairs, X (a x r) and Y (r x b), are exactly the W (a x b) of
                        rank r. *)

From mathcomp Require Import all_ssreflect all_algebra.
From LoRA Require Import frobenius matrices square_roots thin_svd projection spectral.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Reachable.

Variables (F : rcfType) (a b r : nat).

Lemma roots_exist (s : 'rV[F]_r) : (forall i, 0 <= s 0 i) -> exists d, roots d s.
Proof. by move=> s_ge0; exists (\row_i Num.sqrt (s 0 i)) => i; rewrite !mxE sqrtr_ge0 sqr_sqrtr. Qed.

Theorem projection_exists (A : 'M[F]_(a, r)) (B : 'M_(r, b)) : \rank (A *m B) = r -> exists X Y, projection A B X Y.
Proof.
move=> /thin_svd_exists[U [s [V dec]]]; have [_ _ s_ge0 _ _] := dec; have [d root] := roots_exist s_ge0.
by exists (U *m diag_mx d), (diag_mx d *m V^T), U, s, V, d.
Qed.

Theorem reachable_set (W : 'M[F]_(a, b)) :
  \rank W = r <-> exists (X : 'M_(a, r)) (Y : 'M_(r, b)), hyperbalanced X Y /\ X *m Y = W.
Proof.
split=> [rank_W | [X [Y [[s [s_gt0 XX YY]] <-]]]].
  have [U [s [V dec]]] := thin_svd_exists rank_W.
  have [_ _ _ _ WE] := dec; have WE' : (U *m diag_mx s) *m V^T = W by rewrite WE.
  rewrite -WE' in rank_W *; have [X [Y project]] := projection_exists rank_W.
  by exists X, Y; split; [apply: is_hyperbalanced project | apply: keeps_product project].
have square : X^T *m (X *m Y) *m Y^T = diag_mx s *m diag_mx s by rewrite mulmxA XX -mulmxA YY.
have s_unit : diag_mx s \in unitmx.
  by rewrite unitmxE det_diag unitfE; apply/prodf_neq0 => i _; rewrite gt_eqF.
have full : \rank (X^T *m (X *m Y) *m Y^T) = r by rewrite square mxrank_unit // unitmx_mul s_unit.
apply/eqP; rewrite eqn_leq (leq_trans (mxrankM_maxl _ _)) ?rank_leq_col //= -{1}full.
by rewrite (leq_trans (mxrankM_maxl _ _)) // mxrankM_maxr.
Qed.

End Reachable.
