(* Training methods that do not see the gauge of their start: (A, B) and (A R, R^-1 B) lead to the same products A B.

   A is a x r, B is r x b. A run is a sequence of pairs (A t, B t); W = A t B t, G = grad t W is the gradient of any loss
   of W, another one at every step if need be (batches), and g = step t.

   - scaled_runs:      scaled GD, A - g G B^T (B B^T)^-1 and B - g (A^T A)^-1 A^T G.
   - refactored_runs:  RefLoRA, A - g G B^T S^-1 and B - g S A^T G with S = (A^T A)^-1 # (B B^T), from any two starts
                       with the same product.
   - balanced_runs:    GD from two balanced starts with the same product, for instance P(A, B) and P(A R, R^-1 B). After
                       a step the pair is taken to any balanced one with its product, or is not, as `balance t` says.
   - refactored_is_projected: the products of RefLoRA from (A, B) are those of GD with P before every step. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From LoRA Require Import frobenius matrices square_roots thin_svd projection.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Scaled.

Variables (F : fieldType) (a b r : nat) (grad : nat -> 'M[F]_(a, b) -> 'M[F]_(a, b)) (step : nat -> F).
Implicit Types (A : nat -> 'M[F]_(a, r)) (B : nat -> 'M[F]_(r, b)).

Definition scaled_run A B := forall t, let G := grad t (A t *m B t) in
  [/\ (A t)^T *m A t \in unitmx, B t *m (B t)^T \in unitmx,
      A t.+1 = A t - step t *: (G *m (B t)^T *m invmx (B t *m (B t)^T)) &
      B t.+1 = B t - step t *: (invmx ((A t)^T *m A t) *m (A t)^T *m G)].

Lemma inverse n (M N : 'M[F]_n) : M *m N = 1%:M -> invmx M = N.
Proof. by move=> MN; have [M_unit _] := mulmx1_unit MN; rewrite -[LHS]mulmx1 -MN mulKmx. Qed.

Theorem scaled_runs A B A' B' R : R \in unitmx -> scaled_run A B -> scaled_run A' B' ->
  A' 0%N = A 0%N *m R -> B' 0%N = invmx R *m B 0%N -> forall t, A' t *m B' t = A t *m B t.
Proof.
move=> R_unit run run' A0 B0; have RT_unit : R^T \in unitmx by rewrite unitmx_tr.
suff gauge t : A' t = A t *m R /\ B' t = invmx R *m B t.
  by move=> t; have [-> ->] := gauge t; rewrite mulmxA mulmxK.
elim: t => [|t [At Bt]] //; have [A_unit B_unit -> ->] := run t; have [_ _ -> ->] := run' t.
rewrite At Bt (mulmxA _ (invmx R)) mulmxK //; set G := grad t _.
have gramA : invmx ((A t *m R)^T *m (A t *m R)) = invmx R *m invmx ((A t)^T *m A t) *m invmx R^T.
  by apply: inverse; rewrite trmx_mul !mulmxA mulmxK // -(mulmxA R^T) mulmxK // mulmxV.
have gramB : invmx (invmx R *m B t *m (invmx R *m B t)^T) = R^T *m invmx (B t *m (B t)^T) *m R.
  apply: inverse; rewrite trmx_mul trmx_inv !mulmxA mulmxKV // -(mulmxA (invmx R)) mulmxK //.
  by rewrite mulVmx.
rewrite gramA gramB mulmxBl mulmxBr -scalemxAl -scalemxAr !trmx_mul trmx_inv; split; congr (_ - _ *: _).
  by rewrite !mulmxA mulmxKV.
by rewrite !mulmxA mulmxKV.
Qed.

End Scaled.

Section Runs.

Variables (F : realFieldType) (a b r : nat) (grad : nat -> 'M[F]_(a, b) -> 'M[F]_(a, b)) (step : nat -> F).
Implicit Types (A X : nat -> 'M[F]_(a, r)) (B Y : nat -> 'M[F]_(r, b)) (S : nat -> 'M[F]_r).

(* S is the geometric mean of (A^T A)^-1 and B B^T. *)
Definition mean (A : 'M[F]_(a, r)) (B : 'M[F]_(r, b)) (S : 'M_r) :=
  [/\ psd S, S \in unitmx & S *m A^T *m A *m S = B *m B^T].

Definition refactored_run A B S := forall t, let G := grad t (A t *m B t) in
  [/\ mean (A t) (B t) (S t), A t.+1 = A t - step t *: (G *m (B t)^T *m invmx (S t)) &
      B t.+1 = B t - step t *: (S t *m (A t)^T *m G)].

Theorem refactored_runs A B S A' B' S' : refactored_run A B S -> refactored_run A' B' S' ->
  A' 0%N *m B' 0%N = A 0%N *m B 0%N -> forall t, A' t *m B' t = A t *m B t.
Proof.
move=> run run' start; elim=> // t same.
have [[psdS unitS meanS] -> ->] := run t; have [[psdS' unitS' meanS'] -> ->] := run' t.
have [left right] := refactored_roots psdS unitS meanS.
rewrite (refactored_step _ _ psdS unitS meanS left right).
by rewrite -same in left right *; apply: refactored_step.
Qed.

Definition gd_A (A : 'M[F]_(a, r)) (B : 'M[F]_(r, b)) t := A - step t *: (grad t (A *m B) *m B^T).
Definition gd_B (A : 'M[F]_(a, r)) (B : 'M[F]_(r, b)) t := B - step t *: (A^T *m grad t (A *m B)).

Definition balanced_run (balance : nat -> bool) X Y := (X 0%N)^T *m X 0%N = Y 0%N *m (Y 0%N)^T /\
  forall t, if balance t then (X t.+1)^T *m X t.+1 = Y t.+1 *m (Y t.+1)^T /\
                              X t.+1 *m Y t.+1 = gd_A (X t) (Y t) t *m gd_B (X t) (Y t) t
            else X t.+1 = gd_A (X t) (Y t) t /\ Y t.+1 = gd_B (X t) (Y t) t.

(* A step of GD sees X X^T, X Y and Y^T Y only, and what it makes of them depends on them only. *)
Theorem balanced_runs balance X Y X' Y' : balanced_run balance X Y -> balanced_run balance X' Y' ->
  X' 0%N *m Y' 0%N = X 0%N *m Y 0%N -> forall t, X' t *m Y' t = X t *m Y t.
Proof.
case=> flat run [flat' run'] start.
have grams (P P' : 'M[F]_(a, r)) (Q Q' : 'M_(r, b)) : P^T *m P = Q *m Q^T -> P'^T *m P' = Q' *m Q'^T ->
    P' *m Q' = P *m Q -> P' *m P'^T = P *m P^T /\ Q'^T *m Q' = Q^T *m Q.
  move=> flatP flatP' same; have [left right] := balanced_roots flatP.
  have [left' right'] := balanced_roots flatP'; rewrite same in left' right'.
  by rewrite (root_unique left' left) (root_unique right' right).
suff all t : [/\ X' t *m Y' t = X t *m Y t, X' t *m (X' t)^T = X t *m (X t)^T & (Y' t)^T *m Y' t = (Y t)^T *m Y t].
  by move=> t; have [] := all t.
elim: t => [|t [same left right]]; first by have [] := grams _ _ _ _ flat flat' start.
have product : gd_A (X' t) (Y' t) t *m gd_B (X' t) (Y' t) t = gd_A (X t) (Y t) t *m gd_B (X t) (Y t) t.
  rewrite /gd_A /gd_B same; move: (grad t _) (step t) => G g.
  have expanded (P : 'M[F]_(a, r)) (Q : 'M_(r, b)) : (P - g *: (G *m Q^T)) *m (Q - g *: (P^T *m G)) =
      P *m Q - g *: (P *m P^T *m G + G *m (Q^T *m Q)) + g ^+ 2 *: (G *m (P *m Q)^T *m G).
    by expand; rewrite scalerA -expr2; collect.
  by rewrite !expanded same left right.
have := run t; have := run' t; case: (balance t) => [] [now' also'] [now also].
  by have [] := grams _ _ _ _ now now' _; rewrite ?also ?also'.
rewrite now also now' also'; split=> //; rewrite /gd_A /gd_B same; move: (grad t _) (step t) => G g.
  have expanded (P : 'M[F]_(a, r)) (Q : 'M_(r, b)) : (P - g *: (G *m Q^T)) *m (P - g *: (G *m Q^T))^T =
      P *m P^T - g *: (P *m Q *m G^T + G *m (P *m Q)^T) + g ^+ 2 *: (G *m (Q^T *m Q) *m G^T).
    by expand; rewrite scalerA -expr2; collect.
  by rewrite !expanded same left right.
have expanded (P : 'M[F]_(a, r)) (Q : 'M_(r, b)) : (Q - g *: (P^T *m G))^T *m (Q - g *: (P^T *m G)) =
    Q^T *m Q - g *: ((P *m Q)^T *m G + G^T *m (P *m Q)) + g ^+ 2 *: (G^T *m (P *m P^T) *m G).
  by expand; rewrite scalerA -expr2; collect.
by rewrite !expanded same left right.
Qed.

Definition projected_run (A0 : 'M[F]_(a, r)) (B0 : 'M[F]_(r, b)) X Y := projection A0 B0 (X 0%N) (Y 0%N) /\
  forall t, projection (gd_A (X t) (Y t) t) (gd_B (X t) (Y t) t) (X t.+1) (Y t.+1).

Theorem refactored_is_projected A B S X Y : refactored_run A B S -> projected_run (A 0%N) (B 0%N) X Y ->
  forall t, A t *m B t = X t *m Y t.
Proof.
move=> run [start project]; have flat t : (X t)^T *m X t = Y t *m (Y t)^T.
  case: t => [|t]; first by have [_ [s [_ [_ -> ->]]]] := projection_grams start.
  by have [_ [s [_ [_ -> ->]]]] := projection_grams (project t).
elim=> [|t same]; first by rewrite (keeps_product start).
rewrite (keeps_product (project t)); have [[psdS unitS meanS] -> ->] := run t.
have [left right] := balanced_roots (flat t); rewrite /gd_A /gd_B.
rewrite (intrinsic_step _ _ (flat t) left right).
by rewrite -same in left right *; apply: refactored_step.
Qed.

End Runs.
