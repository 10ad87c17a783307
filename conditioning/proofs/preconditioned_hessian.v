(* Scaled gradients at the minimizers of Model 1: coordinates in which P^-1 H, P(dA, dB) = (dA B B^T, A^T A dB), is
   diagonal.

   r is the rank, a = r + n + e and b = r + n + f with e = 0 or f = 0, so that n = min(a, b) - r and e + f = |a - b|. In
   canonical form (minimizers.v):

   - intertwined: in coordinates (K, N, Y+, Y-, Y1, Y2), a linear bijection, P^-1 H multiplies K by 0, N by 2, the entry
     (l, i) of Y+ by 1 + s_{r+l}/s_i, that of Y- by 1 - s_{r+l}/s_i, Y1 and Y2 by 1. K and N are r x r, Y+ and Y- are
     n x r, Y1 is e x r, Y2 is f x r: these are all eigenvalues, and how often.
   - exact_step: for s_{r+1} = 0 a step of 2/3 divides the form by 9. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From LoRA Require Import frobenius matrices model1 condition_number minimizers.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Definition scaled_hessian (F : fieldType) a b r (Z : 'M[F]_(a, b)) (A : 'M_(a, r)) (B : 'M_(r, b))
    (d : 'M[F]_(a, r) * 'M[F]_(r, b)) : 'M[F]_(a, r) * 'M[F]_(r, b) :=
  (hessianA Z A B d.1 d.2 *m invmx (B *m B^T), invmx (A^T *m A) *m hessianB Z A B d.1 d.2).

Section Coordinates.

Variables (F : realFieldType) (r n e f : nat) (s : nat -> F).
Hypotheses (s_gt0 : forall i : 'I_r, 0 < s i) (narrow : e = 0%N \/ f = 0%N).

Let S : 'M[F]_r := diagonal r r s.
Let R : 'M[F]_r := diag_mx (\row_i (s i)^-1).
Let T : 'M[F]_(n + e, n + f) := diagonal (n + e) (n + f) (fun i => s (r + i)%N).

Definition coordinates : Type :=
  ('M[F]_r * 'M[F]_r * 'M[F]_(n, r) * 'M[F]_(n, r) * 'M[F]_(e, r) * 'M[F]_(f, r))%type.

Definition ratio (l : 'I_n) (i : 'I_r) : F := s (r + l)%N / s i.

Definition action (c : coordinates) : coordinates :=
  let: (K, N, Yp, Ym, Y1, Y2) := c in
  (0, 2%:R *: N, \matrix_(l, i) ((1 + ratio l i) * Yp l i), \matrix_(l, i) ((1 - ratio l i) * Ym l i), Y1, Y2).

Lemma SR : S *m R = 1%:M.
Proof.
rewrite /S /R diagonal_square mulmx_diag; apply/matrixP => i j; rewrite !mxE mulfV //.
by rewrite gt_eqF.
Qed.

Lemma RS : R *m S = 1%:M. Proof. exact: mulmx1C SR. Qed.

Lemma T_block : T = block_mx (diagonal n n (fun i => s (r + i)%N)) 0 0 0.
Proof.
have empty t : diagonal e f t = 0 :> 'M[F]_(e, f).
  by apply/matrixP => i j; case: narrow => zero; [have := ltn_ord i | have := ltn_ord j]; rewrite [X in (_ < X)%N]zero.
by rewrite /T (diagonal_block n n e f) empty.
Qed.

Variables (A1 B1 : 'M[F]_r) (U : 'M[F]_(r + (n + e))) (V : 'M[F]_(r + (n + f))).
Hypotheses (A1B1 : A1 *m B1 = S) (UU : U^T *m U = 1%:M) (VV : V *m V^T = 1%:M).

Let A : 'M_(r + (n + e), r) := U *m col_mx A1 0.
Let B : 'M_(r, r + (n + f)) := row_mx B1 0 *m V.
Let Z : 'M_(r + (n + e), r + (n + f)) := U *m block_mx S 0 0 T *m V.

Lemma left_inverse : R *m A1 *m B1 = 1%:M. Proof. by rewrite -mulmxA A1B1 RS. Qed.
Lemma right_inverse : A1 *m (B1 *m R) = 1%:M. Proof. by rewrite mulmxA A1B1 SR. Qed.

Lemma gram_A : A^T *m A = A1^T *m A1.
Proof. by rewrite /A trmx_mul !mulmxA -(mulmxA _ U^T) UU mulmx1 tr_col_mx mul_row_col trmx0 mul0mx addr0. Qed.

Lemma gram_B : B *m B^T = B1 *m B1^T.
Proof. by rewrite /B trmx_mul !mulmxA -(mulmxA _ V) VV mulmx1 tr_row_mx mul_row_col trmx0 mulmx0 addr0. Qed.

Lemma scale_A : invmx (A1^T *m A1) *m A1^T = B1 *m R.
Proof.
have A1u : A1^T *m A1 \in unitmx by rewrite unitmx_mul unitmx_tr andbb; case: (mulmx1_unit right_inverse).
by rewrite -[RHS](mulKmx A1u) -(mulmxA A1^T) right_inverse mulmx1.
Qed.

Lemma scale_B : B1^T *m invmx (B1 *m B1^T) = R *m A1.
Proof.
have B1u : B1 *m B1^T \in unitmx by rewrite unitmx_mul unitmx_tr andbb; case: (mulmx1_unit left_inverse).
by rewrite -[RHS](mulmxK B1u) mulmxA left_inverse mul1mx.
Qed.

(* The direction (dA, dB) with given coordinates. *)
Definition upper (c : coordinates) : 'M_(r + (n + e), r) :=
  let: (K, N, Yp, Ym, Y1, Y2) := c in col_mx ((K + N) *m R) (col_mx (Yp + Ym) Y1).
Definition lower (c : coordinates) : 'M_(r, r + (n + f)) :=
  let: (K, N, Yp, Ym, Y1, Y2) := c in row_mx (R *m (N - K)) (row_mx (Ym - Yp)^T Y2^T).
Definition direction c := (U *m (upper c *m A1), B1 *m lower c *m V).

Lemma coupling_entry (p m t v : F) : p + m - t * (m - p) * v = (1 + t * v) * p + (1 - t * v) * m.
Proof. by ring. Qed.

Lemma coupled (Yp Ym : 'M[F]_(n, r)) (Y1 : 'M_(e, r)) (Y2 : 'M_(f, r)) :
  col_mx (Yp + Ym) Y1 - T *m (col_mx (Ym - Yp) Y2) *m R =
  col_mx (\matrix_(l, i) ((1 + ratio l i) * Yp l i) + \matrix_(l, i) ((1 - ratio l i) * Ym l i)) Y1.
Proof.
rewrite T_block mul_block_col !mul0mx !addr0 mul_col_mx mul0mx opp_col_mx add_col_mx oppr0 addr0; congr col_mx.
apply/matrixP => l i; rewrite diagonal_square mul_diag_mx mul_mx_diag /ratio !mxE.
exact: coupling_entry.
Qed.

Lemma coupled_tr (Yp Ym : 'M[F]_(n, r)) (Y1 : 'M_(e, r)) (Y2 : 'M_(f, r)) :
  row_mx (Ym - Yp)^T Y2^T - R *m ((col_mx (Yp + Ym) Y1)^T *m T) =
  row_mx (\matrix_(l, i) ((1 - ratio l i) * Ym l i) - \matrix_(l, i) ((1 + ratio l i) * Yp l i))^T Y2^T.
Proof.
rewrite T_block tr_col_mx mul_row_block !mulmx0 !addr0 mul_mx_row mulmx0 opp_row_mx add_row_mx oppr0 addr0.
congr row_mx; apply/matrixP => i l.
rewrite diagonal_square mul_mx_diag mul_diag_mx /ratio !mxE.
move: (Yp l i) (Ym l i) (s (r + l)%N) ((s i)^-1) => p m t v.
have -> : m - p - v * ((p + m) * t) = (1 - t * v) * m - (1 + t * v) * p by ring.
by [].
Qed.

Lemma double (K N : 'M[F]_r) : (K + N) *m R *m A1 *m B1 + A1 *m (B1 *m (R *m (N - K))) = 2%:R *: N.
Proof.
rewrite -(mulmxA _ R) -(mulmxA _ (R *m A1)) left_inverse mulmx1 (mulmxA B1) (mulmxA A1) right_inverse mul1mx.
by rewrite scaler_nat mulr2n addrC addrA subrK.
Qed.

Lemma intertwined c : scaled_hessian Z A B (direction c) = direction (action c).
Proof.
case: c => [[[[[K N] Yp] Ym] Y1] Y2]; rewrite /scaled_hessian /direction /= gram_A gram_B.
rewrite /Z /A /B hessianA_frame // hessianB_frame // mul_col_mx mul_mx_row (hessianA0 A1B1).
rewrite /S /T (hessianB0 A1B1).
rewrite double; congr pair.
  rewrite -[LHS]mulmxA; congr (U *m _); rewrite [LHS]mul_col_mx [RHS]mul_col_mx; congr col_mx.
    by rewrite add0r -!mulmxA scale_B.
  rewrite trmx_mul tr_row_mx !trmxK -(coupled Yp Ym Y1 Y2) [LHS]mulmxBl [RHS]mulmxBl; congr (_ - _).
    by rewrite -(mulmxA _ B1^T) scale_B -!mulmxA (mulmxA B1) (mulmxA A1) right_inverse mul1mx.
  by rewrite -!mulmxA scale_B.
rewrite [LHS]mulmxA; congr (_ *m V); rewrite [LHS]mul_mx_row [RHS]mul_mx_row; congr row_mx.
  by rewrite subr0 [LHS]mulmxA scale_A [RHS]mulmxA.
rewrite -(coupled_tr Yp Ym Y1 Y2) [LHS]mulmxBr [RHS]mulmxBr; congr (_ - _).
  by rewrite [LHS]mulmxA scale_A (mulmxA A1 B1) A1B1 -(mulmxA B1 R) (mulmxA R S) RS mul1mx.
by rewrite trmx_mul -(mulmxA A1^T) [LHS]mulmxA scale_A -(mulmxA B1 R).
Qed.

Definition coordinates_of (d : 'M[F]_(r + (n + e), r) * 'M[F]_(r, r + (n + f))) : coordinates :=
  let G := U^T *m d.1 *m (B1 *m R) in let H := R *m A1 *m d.2 *m V^T in
  let X := usubmx G *m S in let X' := S *m lsubmx H in
  let Y := usubmx (dsubmx G) in let Y' := (lsubmx (rsubmx H))^T in
  (2%:R^-1 *: (X - X'), 2%:R^-1 *: (X + X'), 2%:R^-1 *: (Y - Y'), 2%:R^-1 *: (Y + Y'), dsubmx (dsubmx G),
   (rsubmx (rsubmx H))^T).

Lemma half_sub k m (X Y : 'M[F]_(k, m)) : 2%:R^-1 *: (X + Y - (Y - X)) = X.
Proof. by rewrite opprB addrACA subrr addr0 -mulr2n -scaler_nat scalerA mulVf ?scale1r ?pnatr_eq0. Qed.

Lemma half_add k m (X Y : 'M[F]_(k, m)) : 2%:R^-1 *: (X + Y + (Y - X)) = Y.
Proof. by rewrite (addrC X Y) addrACA subrr addr0 -mulr2n -scaler_nat scalerA mulVf ?scale1r ?pnatr_eq0. Qed.

Lemma halves_add k m (X Y : 'M[F]_(k, m)) : 2%:R^-1 *: (X - Y) + 2%:R^-1 *: (X + Y) = X.
Proof. by rewrite -scalerDr addrACA addNr addr0 -mulr2n -scaler_nat scalerA mulVf ?scale1r ?pnatr_eq0. Qed.

Lemma halves_sub k m (X Y : 'M[F]_(k, m)) : 2%:R^-1 *: (X + Y) - 2%:R^-1 *: (X - Y) = Y.
Proof. by rewrite -scalerBr opprB half_add. Qed.

Lemma directionK c : coordinates_of (direction c) = c.
Proof.
case: c => [[[[[K N] Yp] Ym] Y1] Y2]; rewrite /coordinates_of /direction /upper /lower.
rewrite [fst _]/= [snd _]/=.
have -> : U^T *m (U *m (col_mx ((K + N) *m R) (col_mx (Yp + Ym) Y1) *m A1)) *m (B1 *m R) =
    col_mx ((K + N) *m R) (col_mx (Yp + Ym) Y1).
  by rewrite (mulmxA U^T U) UU mul1mx -mulmxA right_inverse mulmx1.
have -> : R *m A1 *m (B1 *m row_mx (R *m (N - K)) (row_mx (Ym - Yp)^T Y2^T) *m V) *m V^T =
    row_mx (R *m (N - K)) (row_mx (Ym - Yp)^T Y2^T).
  by rewrite -(mulmxA B1) (mulmxA _ B1) left_inverse mul1mx -mulmxA VV mulmx1.
rewrite !(col_mxKu, col_mxKd, row_mxKl, row_mxKr) !trmxK -(mulmxA _ R S) RS mulmx1 (mulmxA S R) SR mul1mx.
by rewrite half_sub half_add half_sub half_add.
Qed.

Lemma coordinates_ofK d : direction (coordinates_of d) = d.
Proof.
case: d => dA dB; rewrite /direction /coordinates_of /upper /lower [fst _]/= [snd _]/=.
set G := U^T *m dA *m (B1 *m R); set H := R *m A1 *m dB *m V^T.
rewrite halves_add halves_sub halves_add halves_sub -(mulmxA _ S R) SR mulmx1 (mulmxA R S) RS mul1mx !trmxK.
rewrite !vsubmxK !hsubmxK /G /H; congr pair.
  by rewrite -(mulmxA _ (B1 *m R)) (mulmx1C right_inverse) mulmx1 (mulmxA U) (mulmx1C UU) mul1mx.
by rewrite -!(mulmxA (R *m A1)) (mulmxA B1 (R *m A1)) (mulmx1C left_inverse) mul1mx -(mulmxA dB) (mulmx1C VV) mulmx1.
Qed.

Lemma upper_linear t c c' : upper (t *: c + c') = t *: upper c + upper c'.
Proof.
case: c => [[[[[K N] Yp] Ym] Y1] Y2]; case: c' => [[[[[K' N'] Yp'] Ym'] Y1'] Y2'].
have -> : t *: (K, N, Yp, Ym, Y1, Y2) + (K', N', Yp', Ym', Y1', Y2') =
  (t *: K + K', t *: N + N', t *: Yp + Yp', t *: Ym + Ym', t *: Y1 + Y1', t *: Y2 + Y2') by [].
rewrite /upper !scale_col_mx !add_col_mx; congr col_mx; first by expand; collect.
by congr col_mx; collect.
Qed.

Lemma lower_linear t c c' : lower (t *: c + c') = t *: lower c + lower c'.
Proof.
case: c => [[[[[K N] Yp] Ym] Y1] Y2]; case: c' => [[[[[K' N'] Yp'] Ym'] Y1'] Y2'].
have -> : t *: (K, N, Yp, Ym, Y1, Y2) + (K', N', Yp', Ym', Y1', Y2') =
  (t *: K + K', t *: N + N', t *: Yp + Yp', t *: Ym + Ym', t *: Y1 + Y1', t *: Y2 + Y2') by [].
rewrite /lower !scale_row_mx !add_row_mx; congr row_mx; first by expand; collect.
by congr row_mx; expand; collect.
Qed.

Lemma direction_linear : linear direction.
Proof.
move=> t c c'; rewrite /direction upper_linear lower_linear.
by rewrite mulmxDl !mulmxDr mulmxDl -!scalemxAl -!scalemxAr -!scalemxAl.
Qed.

Lemma direction_bijective : bijective direction.
Proof. by exists coordinates_of; [apply: directionK | apply: coordinates_ofK]. Qed.

(* If A B is all of Z, a step of 2/3 divides the form by 9. *)
Lemma exact_step d : T = 0 ->
  form Z A B (d - (2%:R / 3%:R) *: scaled_hessian Z A B d).1 (d - (2%:R / 3%:R) *: scaled_hessian Z A B d).2 =
  9%:R^-1 * form Z A B d.1 d.2.
Proof.
move=> T0; rewrite -(coordinates_ofK d); move: (coordinates_of d) => c; rewrite intertwined.
have formE c' : form Z A B (direction c').1 (direction c').2 = let: (K, N, Yp, Ym, Y1, Y2) := c' in
    4%:R * |[N]| + |[(Yp + Ym) *m S]| + |[Y1 *m S]| + |[(Ym - Yp) *m S]| + |[Y2 *m S]|.
  case: c' => [[[[[K N] Yp] Ym] Y1] Y2]; rewrite /direction /= form_frame // mul_col_mx mul_mx_row.
  rewrite (form0 A1B1) /core -/T T0 inner0l mulr0 subr0 -!addrA double.
  rewrite innerZl innerZr mulrA -natrM; congr (_ + _).
  rewrite -!mulmxA A1B1 mulmxA A1B1 !mul_col_mx inner_col -addrA; congr (_ + (_ + _)).
  by rewrite mul_mx_row inner_row -!(inner_tr (S *m _)) !trmx_mul !trmxK diagonal_tr.
have -> : direction c - (2%:R / 3%:R) *: direction (action c) = direction (- (2%:R / 3%:R) *: action c + c).
  by rewrite direction_linear scaleNr addrC.
rewrite !formE; case: c => [[[[[K N] Yp] Ym] Y1] Y2].
have ratio0 l i : ratio l i = 0.
  have /matrixP/(_ (lshift e l) (lshift f l)) := T0; rewrite !mxE /= eqxx mulr1n /ratio => ->.
  by rewrite mul0r.
have third k m (X : 'M[F]_(k, m)) : - (2%:R / 3%:R) *: X + X = 3%:R^-1 *: X.
  by rewrite -{2}[X]scale1r -scalerDl; congr (_ *: _); field; rewrite ?pnatr_eq0.
have plus (X : 'M[F]_(n, r)) : \matrix_(l, i) ((1 + ratio l i) * X l i) = X.
  by apply/matrixP => l i; rewrite mxE ratio0 addr0 mul1r.
have minus (X : 'M[F]_(n, r)) : \matrix_(l, i) ((1 - ratio l i) * X l i) = X.
  by apply/matrixP => l i; rewrite mxE ratio0 subr0 mul1r.
rewrite /action plus minus.
have -> : - (2%:R / 3%:R) *: (0, 2%:R *: N, Yp, Ym, Y1, Y2) + (K, N, Yp, Ym, Y1, Y2) =
  (- (2%:R / 3%:R) *: 0 + K, - (2%:R / 3%:R) *: (2%:R *: N) + N, - (2%:R / 3%:R) *: Yp + Yp,
   - (2%:R / 3%:R) *: Ym + Ym, - (2%:R / 3%:R) *: Y1 + Y1, - (2%:R / 3%:R) *: Y2 + Y2) by [].
have -> : - (2%:R / 3%:R) *: (2%:R *: N) + N = - 3%:R^-1 *: N.
  by rewrite scalerA -{2}[N]scale1r -scalerDl; congr (_ *: _); field; rewrite ?pnatr_eq0.
rewrite !third -scalerDr -scalerBr -!scalemxAl !innerZl !innerZr.
move: |[N]| |[(Yp + Ym) *m S]| |[Y1 *m S]| |[(Ym - Yp) *m S]| |[Y2 *m S]| => x1 x2 x3 x4 x5.
by field; rewrite ?pnatr_eq0.
Qed.

(* The eigenvalues: 0, 2, 1 + s_l/s_i and 1 - s_l/s_i, and 1 if a and b differ. *)

Definition eigenvalue l := exists2 d, d != 0 & scaled_hessian Z A B d = l *: d.

Lemma direction0 : direction 0 = 0.
Proof. by have := direction_linear (-1) 0 0; rewrite scaler0 addr0 scaleN1r addNr. Qed.

Lemma eigenvalueE l : eigenvalue l <-> exists2 c : coordinates, c != 0 & action c = l *: c.
Proof.
have linear0 t c : direction (t *: c) = t *: direction c.
  by have := direction_linear t c 0; rewrite !addr0 direction0 addr0.
split=> [[d d_neq0 dE] | [c c_neq0 cE]].
  exists (coordinates_of d).
    by apply: contraNneq d_neq0 => d0; rewrite -(coordinates_ofK d) d0 direction0.
  by apply: (can_inj directionK); rewrite linear0 -intertwined coordinates_ofK.
exists (direction c); last by rewrite intertwined cE linear0.
by apply: contraNneq c_neq0 => c0; rewrite -(directionK c) c0 -direction0 directionK.
Qed.

Lemma scaled_entry k m (X : 'M[F]_(k, m)) (mu : 'I_k -> 'I_m -> F) l :
  X != 0 -> (forall i j, mu i j * X i j = l * X i j) -> exists i j, l = mu i j.
Proof. by case/matrix0Pn => i [j Xij] eq; exists i, j; apply: (mulIf Xij); rewrite eq. Qed.

Lemma eigenvalue_list l : eigenvalue l -> [\/ l = 0, l = 2%:R,
  (exists j i, l = 1 + ratio j i \/ l = 1 - ratio j i) | l = 1 /\ (0 < e + f)%N].
Proof.
case/eigenvalueE => -[[[[[K N] Yp] Ym] Y1] Y2] c_neq0 cE.
have [eK eN eYp eYm eY1 eY2] :
  action (K, N, Yp, Ym, Y1, Y2) = (l *: K, l *: N, l *: Yp, l *: Ym, l *: Y1, l *: Y2) := cE.
have [K0|K_neq0] := eqVneq K 0; last first.
  have [|i [j]] := @scaled_entry _ _ K (fun _ _ => 0) l K_neq0; last by constructor 1.
  by move=> i j; have /matrixP/(_ i j) := eK; rewrite !mxE mul0r.
have [N0|N_neq0] := eqVneq N 0; last first.
  have [|i [j]] := @scaled_entry _ _ N (fun _ _ => 2%:R) l N_neq0; last by constructor 2.
  by move=> i j; have /matrixP/(_ i j) := eN; rewrite !mxE.
have [Yp0|Yp_neq0] := eqVneq Yp 0; last first.
  have [|i [j]] := @scaled_entry _ _ Yp (fun i j => 1 + ratio i j) l Yp_neq0; last by constructor 3; exists i, j; left.
  by move=> i j; have /matrixP/(_ i j) := eYp; rewrite !mxE.
have [Ym0|Ym_neq0] := eqVneq Ym 0; last first.
  have [|i [j]] := @scaled_entry _ _ Ym (fun i j => 1 - ratio i j) l Ym_neq0; last by constructor 3; exists i, j; right.
  by move=> i j; have /matrixP/(_ i j) := eYm; rewrite !mxE.
have [Y10|Y1_neq0] := eqVneq Y1 0; last first.
  have [|i [j]] := @scaled_entry _ _ Y1 (fun _ _ => 1) l Y1_neq0.
    by move=> i j; have /matrixP/(_ i j) := eY1; rewrite !mxE mul1r.
  by constructor 4; split=> //; rewrite ltn_addr // (leq_ltn_trans _ (ltn_ord i)).
have [Y20|Y2_neq0] := eqVneq Y2 0; last first.
  have [|i [j]] := @scaled_entry _ _ Y2 (fun _ _ => 1) l Y2_neq0.
    by move=> i j; have /matrixP/(_ i j) := eY2; rewrite !mxE mul1r.
  by constructor 4; split=> //; rewrite ltn_addl // (leq_ltn_trans _ (ltn_ord i)).
by case/eqP: c_neq0; rewrite K0 N0 Yp0 Ym0 Y10 Y20.
Qed.

Lemma delta_neq0 k m (i : 'I_k) (j : 'I_m) : delta_mx i j != 0 :> 'M[F]_(k, m).
Proof. by apply/eqP => /matrixP/(_ i j)/eqP; rewrite !mxE !eqxx oner_eq0. Qed.

Let action_zero (X : 'M[F]_(n, r)) (g : 'I_n -> 'I_r -> F) : X = 0 -> \matrix_(l, i) (g l i * X l i) = 0.
Proof. by move=> ->; apply/matrixP => l i; rewrite !mxE mulr0. Qed.

Lemma eigenvalue2 : (0 < r)%N -> eigenvalue 2%:R.
Proof.
move=> r_gt0; pose i := Ordinal r_gt0; apply/eigenvalueE; exists (0, delta_mx i i, 0, 0, 0, 0).
  by apply/eqP => -[/eqP]; rewrite (negPf (delta_neq0 i i)).
rewrite /action !action_zero //.
by transitivity (2%:R *: 0 : 'M[F]_r, 2%:R *: delta_mx i i : 'M[F]_r, 2%:R *: 0 : 'M[F]_(n, r),
  2%:R *: 0 : 'M[F]_(n, r), 2%:R *: 0 : 'M[F]_(e, r), 2%:R *: 0 : 'M[F]_(f, r)); first by rewrite !scaler0.
Qed.

Lemma eigenvalue_minus j i : eigenvalue (1 - ratio j i).
Proof.
apply/eigenvalueE; exists (0, 0, 0, delta_mx j i, 0, 0).
  by apply/eqP => -[/eqP]; rewrite (negPf (delta_neq0 j i)).
set l := 1 - _; rewrite /action action_zero // scaler0.
transitivity (l *: 0 : 'M[F]_r, l *: 0 : 'M[F]_r, l *: 0 : 'M[F]_(n, r), l *: delta_mx j i : 'M[F]_(n, r),
  l *: 0 : 'M[F]_(e, r), l *: 0 : 'M[F]_(f, r)); last by [].
rewrite !scaler0; congr (_, _, _, _, _, _); apply/matrixP => j' i'; rewrite !mxE.
by case: eqP => [->|_]; rewrite ?mulr0 //; case: eqP => [->|_]; rewrite ?mulr0.
Qed.

Lemma eigenvalue1 : (0 < r)%N -> (0 < e + f)%N -> eigenvalue 1.
Proof.
rewrite addn_gt0 => r_gt0 /orP[pos|pos]; apply/eigenvalueE.
  exists (0, 0, 0, 0, delta_mx (Ordinal pos) (Ordinal r_gt0), 0).
    by apply/eqP => -[/eqP]; rewrite (negPf (delta_neq0 _ _)).
  by rewrite scale1r /action !action_zero // scaler0.
exists (0, 0, 0, 0, 0, delta_mx (Ordinal pos) (Ordinal r_gt0)).
  by apply/eqP => -[/eqP]; rewrite (negPf (delta_neq0 _ _)).
by rewrite scale1r /action !action_zero // scaler0.
Qed.

End Coordinates.
