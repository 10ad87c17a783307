(* The minimizers of Model 1 are one orbit of changes of gauge, and the Hessian's kernel is its tangent space.

   - minimizers_orbit: if (A, B) and (A', B') are minimizers, A' = A P and B' = P^-1 B for an invertible P.
   - kernel_orbit: H d = 0 if and only if d = (A W, -W B) for a W, and then for exactly one: the kernel is the tangent
     space of the orbit, of dimension r^2. *)

From mathcomp Require Import all_ssreflect all_algebra.
From LoRA Require Import frobenius model1 condition_number minimizers.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Orbit.

Variables (F : realFieldType) (r p q : nat).
Implicit Types (Z : 'M[F]_(r + p, r + q)) (A : 'M[F]_(r + p, r)) (B : 'M[F]_(r, r + q)).

Theorem minimizers_orbit Z s U V A B A' B' : truncated Z s U V A B -> truncated Z s U V A' B' ->
  exists2 P : 'M_r, P \in unitmx & A' = A *m P /\ B' = invmx P *m B.
Proof.
move=> min min'; have [A1 [B1 [AB -> -> _]]] := canonical min.
have [A2 [B2 [AB' -> -> _]]] := canonical min'.
case: min => _ _ step s_ge0 _ s_gap _ _.
have A1u := A1_unit step s_ge0 s_gap AB; have A2u := A1_unit step s_ge0 s_gap AB'.
set P := invmx A1 *m A2; have Pu : P \in unitmx by rewrite unitmx_mul unitmx_inv A1u.
have E : B1 = P *m B2 by rewrite -mulmxA AB' -AB (mulKmx A1u).
exists P => //; split; first by rewrite -mulmxA mul_col_mx mul0mx (mulKVmx A1u).
by rewrite mulmxA mul_mx_row mulmx0 E (mulKmx Pu).
Qed.

Theorem kernel_orbit Z s U V A B : truncated Z s U V A B -> forall dA dB,
  in_kernel Z A B dA dB <-> exists! W : 'M_r, dA = A *m W /\ dB = - (W *m B).
Proof.
move=> min dA dB; have [A1 [B1 [AB -> -> ->]]] := canonical min.
case: min => UU VV step s_ge0 _ s_gap _ _.
have A1u := A1_unit step s_ge0 s_gap AB.
rewrite (frameA UU dA) (frameB VV dB); move: (U^T *m dA) (dB *m V^T) => dA' dB'.
have [X1 [X2 [Y1 [Y2 [-> ->]]]]] := form_split dA' dB'.
rewrite (in_kernel_frame UU VV) kernel0 //; split=> [[N -> ->] | [W [[eA eB] _]]].
  exists (invmx A1 *m X1); split.
    split; first by rewrite -mulmxA mul_col_mx mul0mx (mulKVmx A1u).
    rewrite mulmxA mul_mx_row mulmx0 -mulNmx opp_row_mx oppr0; congr (row_mx _ _ *m _).
    by apply/eqP; rewrite -subr_eq0 opprK -[Y1](mulKmx A1u) -mulmxA -mulmxDr addrC N mulmx0.
  move=> W [eA _]; have : U^T *m (U *m col_mx X1 0) = U^T *m (U *m col_mx A1 0 *m W) by rewrite eA.
  rewrite !mulmxA UU !mul1mx mul_col_mx mul0mx => /eq_col_mx [-> _].
  by rewrite (mulKmx A1u).
have : U^T *m (U *m col_mx X1 X2) = U^T *m (U *m col_mx A1 0 *m W) by rewrite eA.
rewrite !mulmxA UU !mul1mx mul_col_mx mul0mx => /eq_col_mx [-> ->].
have : (row_mx Y1 Y2 *m V) *m V^T = - (W *m (row_mx B1 0 *m V)) *m V^T by rewrite eB.
rewrite mulNmx -!mulmxA VV !mulmx1 mul_mx_row mulmx0 opp_row_mx oppr0 => /eq_row_mx [-> ->].
by rewrite mulmxN mulmxA subrr.
Qed.

End Orbit.
