(* The trace of the Hessian of Model 1, the sum of H over the unit directions.

   - hessian_trace: tr H = b |A|^2 + a |B|^2 at every pair (A, B), minimizer or not.
   - smallest_trace: tr H >= 2 w (s_1 + ... + s_r), w = (ab)^(1/2), at every minimizer. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From LoRA Require Import frobenius model1 condition_number minimizers.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Trace.

Variables (F : realFieldType) (a b r : nat) (Z : 'M[F]_(a, b)) (A : 'M[F]_(a, r)) (B : 'M[F]_(r, b)).

Definition hessian_trace : F :=
  \sum_i \sum_j form Z A B (delta_mx i j) 0 + \sum_i \sum_j form Z A B 0 (delta_mx i j).

Lemma hessian_traceE : hessian_trace = b%:R * |[A]| + a%:R * |[B]|.
Proof.
have left i j : form Z A B (delta_mx i j) 0 = |[row j B]|.
  rewrite /form /jacobian !mulmx0 inner0r mulr0 !addr0 -(mul_delta_mx (0 : 'I_1)) -mulmxA -rowE.
  by rewrite -[row j B]trmxK inner_outer inner_delta mxE !eqxx mul1r trmxK inner_tr.
have right i j : form Z A B 0 (delta_mx i j) = |[col i A]|.
  rewrite /form /jacobian !mul0mx inner0r mulr0 addr0 add0r -(mul_delta_mx (0 : 'I_1)) mulmxA -colE.
  by rewrite -trmx_delta inner_outer inner_delta mxE !eqxx mulr1.
rewrite /hessian_trace addrC; congr (_ + _).
  rewrite (norm_col A) mulr_sumr; apply: eq_bigr => i _.
  by rewrite (eq_bigr _ (fun j _ => right i j)) sumr_const card_ord mulr_natl.
rewrite (eq_bigr (fun _ => |[B]|)) ?sumr_const ?card_ord ?mulr_natl // => i _.
by rewrite (norm_row B); apply: eq_bigr.
Qed.

End Trace.

Theorem smallest_trace (F : realFieldType) r p q (Z : 'M[F]_(r + p, r + q)) s U V A B (w : F) :
  truncated Z s U V A B -> 0 <= w -> w ^+ 2 = (r + p)%:R * (r + q)%:R ->
  hessian_trace Z A B = (r + q)%:R * |[A]| + (r + p)%:R * |[B]| /\
  2%:R * w * (\sum_(i < r) s i) <= hessian_trace Z A B.
Proof.
move=> min w_ge0 ww; rewrite hessian_traceE; split=> //.
have [A1 [B1 [AB -> -> _]]] := canonical min; have [UU VV _ _ _ s_gap _ _] := min.
rewrite inner_orthol // inner_orthor // inner_col inner_row !inner0l !addr0.
have -> : \sum_(i < r) s i = <[A1, B1^T]>.
  by rewrite /inner trmxK AB; apply: eq_bigr => i _; rewrite mxE eqxx.
have b_gt0 : 0 < (r + q)%:R :> F by rewrite ltr0n addn_gt0 (r_gt0 s_gap).
rewrite -subr_ge0 -(pmulr_rge0 _ b_gt0).
have := norm_ge0 ((r + q)%:R *: A1 - w *: B1^T).
rewrite norm_sub !innerZl !innerZr inner_tr; congr (_ <= _).
move: ww; move: (r + q)%:R (r + p)%:R => c d ww.
have -> : w * (w * |[B1]|) = c * (d * |[B1]|) by rewrite mulrA -expr2 ww; ring.
by ring.
Qed.
