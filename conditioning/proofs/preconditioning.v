(* Scaled gradients at the minimizers of Model 1: the spectrum of P^-1 H, P(dA, dB) = (dA B B^T, A^T A dB), its
   condition number kappa_P, and what follows.

   r is the rank, a = r + n + e and b = r + n + f with e = 0 or f = 0, so that min(a, b) = r + n and |a - b| = e + f;
   `truncated` says that A B = Z_r with s_r > s_{r+1} (minimizers.v).

   - scaled_spectrum: in linear coordinates P^-1 H is diagonal (preconditioned_hessian.v): 0 and 2, r^2 times each,
     1 + s_l/s_i and 1 - s_l/s_i for i <= r < l <= min(a, b), and 1, r |a - b| times, whatever the gauge.
   - scaled_condition_number: kappa_P = 2 s_r / (s_r - s_{r+1}) if r < min(a, b), 2 if r = min(a, b) and a, b differ,
     1 if r = a = b.
   - scaled_rate: for s_{r+1} = 0, kappa_P <= 2, and a step of 2/3 divides the Hessian's form by 9.
   - scaled_against_balance: kappa_P is s_r/s_1 times kappa at balance, so no larger. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From LoRA Require Import frobenius model1 condition_number minimizers balance preconditioned_hessian.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

(* kappa of P^-1 H: its largest eigenvalue over the smallest one other than 0. *)

Definition scaled_kappa (F : realFieldType) a b r (Z : 'M[F]_(a, b)) (A : 'M_(a, r)) (B : 'M_(r, b)) c : Prop :=
  let eigenvalue l := exists2 d, d != 0 & scaled_hessian Z A B d = l *: d in
  exists L mu, [/\ c = L / mu, eigenvalue L, eigenvalue mu, 0 < mu
    & forall l, eigenvalue l -> l <= L /\ (l != 0 -> mu <= l)].

Section Minimizer.

Variables (F : realFieldType) (r n e f : nat) (Z : 'M[F]_(r + (n + e), r + (n + f))) (s : nat -> F).
Variables (U : 'M[F]_(r + (n + e))) (V : 'M[F]_(r + (n + f))).
Variables (A : 'M[F]_(r + (n + e), r)) (B : 'M[F]_(r, r + (n + f))).
Hypotheses (narrow : e = 0%N \/ f = 0%N) (min : truncated Z s U V A B).

Lemma values_positive (i : 'I_r) : 0 < s i.
Proof. by have [_ _ step s_ge0 _ s_gap _ _] := min; apply: s_gt0. Qed.

Lemma ratio_bounds (l : 'I_n) (i : 'I_r) : 0 <= ratio s l i <= s r / s r.-1.
Proof.
have [_ _ step s_ge0 _ s_gap _ _] := min; have sr_gt0 := sr_gt0 s_ge0 s_gap; have si_gt0 := values_positive i.
rewrite /ratio divr_ge0 //= ler_pdivr_mulr // mulrAC ler_pdivl_mulr //; apply: ler_pmul => //.
  by apply: descends => //; apply: leq_addr.
by apply: s_ge_sr.
Qed.

(* In coordinates (K, N, Y+, Y-, Y1, Y2) P^-1 H is diagonal. *)
Theorem scaled_spectrum : exists direction : coordinates F r n e f -> 'M[F]_(r + (n + e), r) * 'M[F]_(r, r + (n + f)),
  [/\ linear direction, bijective direction & forall c, scaled_hessian Z A B (direction c) = direction (action s c)].
Proof.
have [A1 [B1 [AB EA EB EZ]]] := canonical min; have [UU VV _ _ _ _ _ _] := min.
exists (direction s A1 B1 U V); split.
- by move=> t c c'; apply: direction_linear.
- exact: (direction_bijective values_positive AB UU VV).
by move=> c; rewrite EA EB EZ; apply: (intertwined values_positive narrow AB UU VV).
Qed.

Theorem scaled_condition_number :
  [/\ (0 < n)%N -> scaled_kappa Z A B (2%:R * s r.-1 / (s r.-1 - s r)),
      n = 0%N -> (0 < e + f)%N -> scaled_kappa Z A B 2%:R
    & n = 0%N -> e = 0%N -> f = 0%N -> scaled_kappa Z A B 1].
Proof.
have [A1 [B1 [AB EA EB EZ]]] := canonical min; have [UU VV step s_ge0 _ s_gap _ _] := min.
have sr_gt0 := sr_gt0 s_ge0 s_gap; have r_gt0 := r_gt0 s_gap.
have list := eigenvalue_list values_positive narrow AB UU VV.
have two := eigenvalue2 values_positive narrow AB UU VV r_gt0.
rewrite /eigenvalue -EA -EB -EZ in list two.
have two_gt0 : 0 < 2%:R :> F by rewrite ltr0n.
have one_le2 : 1 <= 2%:R :> F by rewrite ler1n.
have q_lt1 : s r / s r.-1 < 1 by rewrite ltr_pdivr_mulr // mul1r.
have q_ge0 : 0 <= s r / s r.-1 by rewrite divr_ge0.
split=> [n_gt0 | n0 ef | n0 e0 f0].
- have last : (r.-1 < r)%N by rewrite prednK.
  have minus := eigenvalue_minus values_positive narrow AB UU VV (Ordinal n_gt0) (Ordinal last).
  rewrite /eigenvalue -EA -EB -EZ /ratio /= addn0 in minus.
  have minus_le1 : 1 - s r / s r.-1 <= 1 by rewrite ler_subl_addr ler_addl.
  exists 2%:R, (1 - s r / s r.-1); split=> //; first 1 last.
  + by rewrite subr_gt0.
  + move=> l /list[-> | -> | [j [i lE]] | [-> _]].
    * by split; [apply: ltW | rewrite eqxx].
    * by split=> // _; apply: le_trans one_le2.
    * have /andP[ge le] := ratio_bounds j i; case: lE => ->; split=> [|_].
      - by rewrite -[2%:R]/(1 + 1) ler_add2l (le_trans le) // ltW.
      - by apply: le_trans minus_le1 _; rewrite ler_addl.
      - by apply: le_trans one_le2; rewrite ler_subl_addr ler_addl.
      by rewrite ler_add2l ler_opp2.
    by split.
  by field; rewrite gt_eqF // subr_eq0 gt_eqF.
- have one := eigenvalue1 values_positive narrow AB UU VV r_gt0 ef.
  rewrite /eigenvalue -EA -EB -EZ in one.
  exists 2%:R, 1; split; rewrite ?divr1 ?ltr01 // => l /list[-> | -> | [j _] | [-> _]].
  + by split; [apply: ltW | rewrite eqxx].
  + by split.
  + by have := ltn_ord j; rewrite {2}n0.
  by split.
exists 2%:R, 2%:R; split; rewrite ?divff ?gt_eqF // => l /list[-> | -> | [j _] | [_]]; rewrite ?e0 ?f0 //.
- by split; [apply: ltW | rewrite eqxx].
by have := ltn_ord j; rewrite {2}n0.
Qed.

(* If rank Z = r, so that s_{r+1} = 0. *)
Theorem scaled_rate : s r = 0 ->
  (exists2 c, scaled_kappa Z A B c & c <= 2%:R) /\
  forall d, let moved := d - (2%:R / 3%:R) *: scaled_hessian Z A B d in
    form Z A B moved.1 moved.2 = 9%:R^-1 * form Z A B d.1 d.2.
Proof.
move=> sr0; have [UU VV step s_ge0 _ s_gap _ _] := min; have sr_gt0 := sr_gt0 s_ge0 s_gap; split.
  have [wide flat square] := scaled_condition_number; rewrite sr0 subr0 mulfK ?gt_eqF // in wide.
  have [n_gt0|] := ltnP 0 n; first by exists 2%:R; [apply: wide|].
  rewrite leqn0 => /eqP n0; have [ef|] := ltnP 0 (e + f); first by exists 2%:R; [apply: flat|].
  rewrite leqn0 addn_eq0 => /andP[/eqP e0 /eqP f0]; exists 1; first exact: square.
  by rewrite ler1n.
have [A1 [B1 [AB -> -> ->]]] := canonical min.
move=> d moved; apply: (exact_step values_positive narrow AB UU VV); apply/matrixP => i j; rewrite !mxE.
suff -> : s (r + i)%N = 0 by rewrite mul0rn.
by apply: le_anti; rewrite s_ge0 andbT -sr0 descends // leq_addr.
Qed.

(* At a balanced (A', B') plain gradients have s_1/s_r times that condition number, in each of the shapes. *)
Theorem scaled_against_balance A' B' : truncated Z s U V A' B' -> A'^T *m A' = B' *m B'^T ->
  exists c, [/\ scaled_kappa Z A B c, kappa_is Z A' B' (c * (s 0%N / s r.-1)) & c <= c * (s 0%N / s r.-1)].
Proof.
move=> min' flat'; have [_ _ step s_ge0 _ s_gap _ _] := min; have sr_gt0 := sr_gt0 s_ge0 s_gap.
have q_ge1 : 1 <= s 0%N / s r.-1 by rewrite ler_pdivl_mulr // mul1r descends.
have grows c : 0 <= c -> c <= c * (s 0%N / s r.-1) by move=> c_ge0; rewrite ler_pemulr.
have [wide flat square] := scaled_condition_number.
have [wide' flat2 square'] := balanced_condition_number min' flat'.
have [n_gt0|] := ltnP 0 n.
  exists (2%:R * s r.-1 / (s r.-1 - s r)); split; first exact: wide.
    have -> : 2%:R * s r.-1 / (s r.-1 - s r) * (s 0%N / s r.-1) = 2%:R * s 0%N / (s r.-1 - s r).
      by field; rewrite !gt_eqF // subr_gt0.
    by apply: wide'; rewrite ltn_addr.
  by rewrite grows // divr_ge0 ?mulr_ge0 ?ler0n ?subr_ge0 // ltW.
rewrite leqn0 => /eqP n0; have [ef|] := ltnP 0 (e + f).
  exists 2%:R; split; [exact: flat | rewrite mulrA; apply: flat2 | by rewrite grows ?ler0n].
    by case: narrow => ->; [left | right]; rewrite n0.
  by rewrite !eqn_add2l; case: narrow ef => ->; rewrite ?addn0 ?add0n lt0n // eq_sym.
rewrite leqn0 addn_eq0 => /andP[/eqP e0 /eqP f0].
exists 1; split; [exact: square | | by rewrite grows ?ler01].
by rewrite mul1r; apply: square'; rewrite n0 ?e0 ?f0.
Qed.

End Minimizer.
