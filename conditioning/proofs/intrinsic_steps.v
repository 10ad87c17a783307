(* The geometry behind projected gradient descent on W = A B, at a balanced pair, A^T A = B B^T.

   H_W[G] = (W W^T)^(1/2) G + G (W^T W)^(1/2), with the square roots given as positive semidefinite L and K with the
   right squares; X = H_W^-1[xi] is any X with H_W[X] = xi.

   - intrinsic_metric: for xi = dA B + A dB and H_W[X] = xi, <xi, X> is the same for all such X, it is
     |X B^T|^2 + |A^T X|^2, at most |dA|^2 + |dB|^2, equal to it for (X B^T, A^T X), which moves W by xi as well, and 0
     for xi = 0 only. For every matrix G, <H_W[G], X> = <G, xi>: H_W[G] is the gradient with respect to that metric.
   - intrinsic_retraction: with xi = - g H_W[G] and H_W[X] = xi, steps of t g lead to W + t xi + t^2 X W^T X. So G
     counts only by H_W[G], and what is normal, W^T N = 0 and N W^T = 0, does not count. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From LoRA Require Import frobenius matrices square_roots.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Intrinsic.

Variables (F : realFieldType) (a b r : nat) (A : 'M[F]_(a, r)) (B : 'M[F]_(r, b)) (L : 'M[F]_a) (K : 'M[F]_b).
Hypotheses (balanced : A^T *m A = B *m B^T).
Hypotheses (rootL : root L (A *m B *m (A *m B)^T)) (rootK : root K ((A *m B)^T *m (A *m B))).

Definition metric_operator (L : 'M[F]_a) (K : 'M[F]_b) (X : 'M[F]_(a, b)) := L *m X + X *m K.

Lemma metric_operatorE X : metric_operator L K X = A *m (A^T *m X) + X *m B^T *m B.
Proof.
have [left right] := balanced_roots balanced.
by rewrite /metric_operator (root_unique rootL left) (root_unique rootK right) !mulmxA.
Qed.

Lemma metric_form X Y : <[metric_operator L K X, Y]> = <[X *m B^T, Y *m B^T]> + <[A^T *m X, A^T *m Y]>.
Proof. by rewrite metric_operatorE innerDl addrC inner_mulr; congr (_ + _); rewrite inner_mull. Qed.

(* What H_W does not see. *)
Lemma metric_kernel N : metric_operator L K N = 0 -> N *m B^T = 0 /\ A^T *m N = 0.
Proof.
move=> zero; have := metric_form N N; rewrite zero inner0l => /esym/eqP.
by rewrite paddr_eq0 ?norm_ge0 // !norm_eq0 => /andP[/eqP-> /eqP->].
Qed.

Lemma metric_operatorB X Y : metric_operator L K (X - Y) = metric_operator L K X - metric_operator L K Y.
Proof. by rewrite /metric_operator; expand; collect. Qed.

Theorem intrinsic_metric dA dB X : metric_operator L K X = dA *m B + A *m dB ->
  [/\ forall Y, metric_operator L K Y = dA *m B + A *m dB -> <[dA *m B + A *m dB, Y]> = <[dA *m B + A *m dB, X]>,
      (X *m B^T) *m B + A *m (A^T *m X) = dA *m B + A *m dB /\
        |[X *m B^T]| + |[A^T *m X]| = <[dA *m B + A *m dB, X]>,
      <[dA *m B + A *m dB, X]> <= |[dA]| + |[dB]|,
      (<[dA *m B + A *m dB, X]> = 0 -> dA *m B + A *m dB = 0)
    & forall G, <[metric_operator L K G, X]> = <[G, dA *m B + A *m dB]>].
Proof.
move=> moved; have value : |[X *m B^T]| + |[A^T *m X]| = <[dA *m B + A *m dB, X]> by rewrite -moved metric_form.
split=> [Y moved'|||zero|G].
- apply/eqP; rewrite -subr_eq0 -innerBr -moved metric_form.
  have [|NB AN] := @metric_kernel (Y - X); first by rewrite metric_operatorB moved moved' subrr.
  by rewrite NB AN !inner0r addr0.
- by split=> //; rewrite addrC -moved metric_operatorE.
- have twice : 2%:R * <[dA *m B + A *m dB, X]> <= |[dA]| + |[X *m B^T]| + (|[dB]| + |[A^T *m X]|).
    rewrite innerDl mulrDr inner_mulr inner_mull; apply: ler_add; exact: inner_le.
  move: twice; rewrite addrACA value mulr_natl mulr2n; by rewrite ler_add2r.
- move/eqP: zero; rewrite -value paddr_eq0 ?norm_ge0 // !norm_eq0 => /andP[/eqP XB /eqP AX].
  by rewrite -moved metric_operatorE XB AX mul0mx mulmx0 addr0.
by rewrite -moved !metric_form [RHS]innerC metric_form (innerC (X *m B^T)) (innerC (A^T *m X)).
Qed.

Theorem intrinsic_retraction G g X : metric_operator L K X = - g *: metric_operator L K G ->
  (forall t, (A - (t * g) *: (G *m B^T)) *m (B - (t * g) *: (A^T *m G)) =
     A *m B + t *: metric_operator L K X + t ^+ 2 *: (X *m (A *m B)^T *m X)) /\
  (forall N, (A *m B)^T *m N = 0 -> N *m (A *m B)^T = 0 -> metric_operator L K N = 0).
Proof.
move=> moved; split=> [t|N WN NW]; last first.
  have AN : A *m (A^T *m N) = 0.
    apply/eqP; rewrite -norm_eq0 inner_mull (mulmxA A^T A) balanced -mulmxA (mulmxA B^T) -trmx_mul WN mulmx0.
    by rewrite inner0r.
  have NB : N *m B^T *m B = 0.
    apply/eqP; rewrite -norm_eq0 inner_mulr -(mulmxA _ B) -balanced mulmxA -(mulmxA N) -trmx_mul NW mul0mx.
    by rewrite inner0r.
  by rewrite metric_operatorE AN NB addr0.
have scaled : metric_operator L K (X + g *: G) = 0.
  have -> : metric_operator L K (X + g *: G) = metric_operator L K X + g *: metric_operator L K G.
    by rewrite /metric_operator; expand; collect.
  by rewrite moved scaleNr addNr.
have [NB AN] := metric_kernel scaled.
have GB : g *: (G *m B^T) = - (X *m B^T).
  by apply/eqP; rewrite -addr_eq0 addrC scalemxAl -mulmxDl NB.
have AG : g *: (A^T *m G) = - (A^T *m X).
  by apply/eqP; rewrite -addr_eq0 addrC scalemxAr -mulmxDr AN.
rewrite -!scalerA GB AG metric_operatorE.
by expand; rewrite ?scalerA -?expr2; collect.
Qed.

End Intrinsic.
