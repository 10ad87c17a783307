(* P, the projection onto the hyperbalanced manifold that keeps the product, and the balanced pairs with one product.

   A is a x r, B is r x b. `projection A B X Y`, (X, Y) = P(A, B): X = U S^(1/2) and Y = S^(1/2) V^T for a thin singular
   value decomposition A B = U S V^T; P is a relation, since signs (and rotations inside equal values) are free.

   - polar_route:         the poster's route, by the polar factors of A and of B, gives such a pair.
   - polar_route_signs:   at distinct singular values and rank r that pair is any other P(A, B) up to signs.
   - keeps_product:       X Y = A B.
   - is_hyperbalanced:    X^T X = Y Y^T, diagonal and positive, if A B has rank r.
   - removes_invariance:  P(A R, R^-1 B) = P(A, B) up to signs, at distinct singular values and rank r.
   - idempotent:          P(P(A, B)) = P(A, B) with the signs that follow the argument, under the same hypotheses.
   - projected_step:      P of a GD step from a hyperbalanced pair has the product
                          W - g (G (W^T W)^(1/2) + (W W^T)^(1/2) G) + g^2 G W^T G, W = A B. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From LoRA Require Import frobenius matrices square_roots thin_svd.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Projection.

Variables (F : realFieldType) (a b r : nat).
Implicit Types (A X : 'M[F]_(a, r)) (B Y : 'M[F]_(r, b)).

(* d = s^(1/2) *)
Definition roots (d s : 'rV[F]_r) := forall i, 0 <= d 0 i /\ d 0 i ^+ 2 = s 0 i.

Definition projection A B X Y := exists U s V d,
  [/\ thin_svd (A *m B) U s V, roots d s, X = U *m diag_mx d & Y = diag_mx d *m V^T].

Definition hyperbalanced X Y := exists s : 'rV_r,
  [/\ forall i, 0 < s 0 i, X^T *m X = diag_mx s & Y *m Y^T = diag_mx s].

(* The poster's route. *)
Definition polar_projection A B X Y := exists RA SA SB RB U s V d,
  [/\ A = RA *m SA /\ RA^T *m RA = 1%:M, B = SB *m RB /\ RB *m RB^T = 1%:M, psd SA /\ psd SB,
      thin_svd (SA *m SB : 'M_(r, r)) U s V & [/\ roots d s, X = RA *m U *m diag_mx d & Y = diag_mx d *m V^T *m RB]].

Definition separated (W : 'M[F]_(a, b)) := \rank W = r /\ exists U s V, thin_svd W U s V /\ @distinct F r s.

Lemma roots_square d s : roots d s -> diag_mx d *m diag_mx d = diag_mx s.
Proof. by move=> root; rewrite mulmx_diag; congr diag_mx; apply/rowP => i; rewrite !mxE -expr2; case: (root i). Qed.

Lemma roots_unique d d' s : roots d s -> roots d' s -> d = d'.
Proof.
move=> root root'; apply/rowP => i; have [d_ge0 dE] := root i; have [d'_ge0 dE'] := root' i.
by apply/eqP; rewrite -(@eqr_expn2 _ 2) // dE dE'.
Qed.

Theorem polar_route A B X Y : polar_projection A B X Y -> projection A B X Y.
Proof.
case=> RA [SA [SB [RB [U [s [V [d [[AE RR] [BE QQ] _ [UU VV s_ge0 descending SE] [root XE YE]]]]]]]]].
exists (RA *m U), s, (RB^T *m V), d; split=> //; last by rewrite YE trmx_mul trmxK mulmxA.
split=> //.
- by rewrite trmx_mul !mulmxA -(mulmxA U^T) RR mulmx1.
- by rewrite trmx_mul trmxK !mulmxA -(mulmxA V^T) QQ mulmx1.
by rewrite AE BE trmx_mul trmxK !mulmxA -(mulmxA RA SA) SE !mulmxA.
Qed.

Theorem keeps_product A B X Y : projection A B X Y -> X *m Y = A *m B.
Proof.
case=> U [s [V [d [[_ _ _ _ ->] root -> ->]]]].
by rewrite mulmxA -(mulmxA U (diag_mx d)) (roots_square root).
Qed.

Lemma projection_grams A B X Y : projection A B X Y -> exists U s V,
  [/\ thin_svd (A *m B) U s V, X^T *m X = diag_mx s & Y *m Y^T = diag_mx s].
Proof.
case=> U [s [V [d [dec root -> ->]]]]; have [UU VV _ _ _] := dec; exists U, s, V; split=> //.
  by rewrite trmx_mul tr_diag_mx !mulmxA -(mulmxA _ U^T) UU mulmx1 (roots_square root).
by rewrite trmx_mul trmxK tr_diag_mx !mulmxA -(mulmxA _ V^T) VV mulmx1 (roots_square root).
Qed.

Theorem is_hyperbalanced A B X Y : \rank (A *m B) = r -> projection A B X Y -> hyperbalanced X Y.
Proof.
move=> rank_AB /projection_grams[U [s [V [dec XX YY]]]]; exists s; split=> //.
by move=> i; apply: (thin_svd_positive rank_AB dec i).
Qed.

Lemma same_product_signs A B A' B' X Y X' Y' : separated (A *m B) -> A' *m B' = A *m B ->
  projection A B X Y -> projection A' B' X' Y' -> exists e, [/\ signs e, X' = X *m diag_mx e & Y' = diag_mx e *m Y].
Proof.
case=> rank_AB [U0 [s0 [V0 [dec0 distinct0]]]] same [U [s [V [d [dec root -> ->]]]]].
case=> U' [s' [V' [d' [dec' root' -> ->]]]]; rewrite same in dec'.
have s_eq : s = s0 by apply: same_values dec0 dec _ _.
rewrite -s_eq in distinct0; have [e [sign s'E -> ->]] := thin_svd_signs dec dec' rank_AB distinct0.
rewrite s'E in root'; rewrite -(roots_unique root root').
exists e; split=> //; first by rewrite -!mulmxA diag_mxC.
by rewrite trmx_mul tr_diag_mx !mulmxA diag_mxC.
Qed.

Theorem removes_invariance A B R X Y X' Y' : R \in unitmx -> separated (A *m B) ->
  projection A B X Y -> projection (A *m R) (invmx R *m B) X' Y' ->
  exists e, [/\ signs e, X' = X *m diag_mx e & Y' = diag_mx e *m Y].
Proof. by move=> R_unit apart; apply: same_product_signs apart _; rewrite mulmxA mulmxK. Qed.

Theorem polar_route_signs A B X Y X' Y' : separated (A *m B) -> polar_projection A B X Y -> projection A B X' Y' ->
  exists e, [/\ signs e, X' = X *m diag_mx e & Y' = diag_mx e *m Y].
Proof. by move=> apart /polar_route project; apply: same_product_signs apart _ project. Qed.

Theorem idempotent A B X Y : separated (A *m B) -> projection A B X Y ->
  projection X Y X Y /\
  forall X' Y', projection X Y X' Y' -> (forall i, 0 <= (X^T *m X' + Y *m Y'^T) i i) -> X' = X /\ Y' = Y.
Proof.
move=> apart project; have same := keeps_product project; split=> [|X' Y' project' follow].
  by case: project => U [s [V [d parts]]]; exists U, s, V, d; rewrite same.
have [e [sign X'E Y'E]] := same_product_signs apart same project project'.
have [U [s [V [dec XX YY]]]] := projection_grams project; have [rank_AB _] := apart.
have eE : e = const_mx 1.
  apply/rowP => i; rewrite mxE; have := follow i; rewrite X'E Y'E trmx_mul tr_diag_mx !mulmxA XX YY.
  rewrite mulmx_diag !mxE eqxx !mulr1n -mulr2n pmulrn_lge0 // pmulr_rge0 ?(thin_svd_positive rank_AB dec) // => e_ge0.
  by apply/eqP; rewrite -(@eqr_expn2 _ 2) ?ler01 // expr1n expr2 sign.
by rewrite X'E Y'E eE diag_const_mx mulmx1 mul1mx.
Qed.

Theorem projected_step A B G g L K X Y : hyperbalanced A B ->
  root L (A *m B *m (A *m B)^T) -> root K ((A *m B)^T *m (A *m B)) ->
  projection (A - g *: (G *m B^T)) (B - g *: (A^T *m G)) X Y ->
  X *m Y = A *m B - g *: (G *m K + L *m G) + g ^+ 2 *: (G *m (A *m B)^T *m G).
Proof.
case=> s [_ AA BB] rootL rootK project; rewrite (keeps_product project).
by apply: intrinsic_step; rewrite // AA BB.
Qed.

End Projection.
