(* The balanced pairs, A^T A = B B^T, with one product of rank r: how they differ, which is nearest, and their norm.

   A and X are a x r, B and Y are r x b.

   - balanced_orbit:  if (X, Y) and (X', Y') are balanced with the same product of rank r, then X' = X Q and Y' = Q^T Y
                      with an orthogonal Q.
   - nearest:         let (X, Y) be balanced with X Y = A B of rank r, and X^T A + Y B^T = O H with O orthogonal and H
                      positive semidefinite (a polar decomposition). Then (X O, O^T Y) is balanced with product A B, and
                      |X O - A|^2 + |O^T Y - B|^2 <= |X' - A|^2 + |Y' - B|^2 for all balanced (X', Y') with product A B.
   - smallest_norm:   2 (s_1 + ... + s_r) <= |A|^2 + |B|^2 for a thin singular value decomposition A B = U diag(s) V^T,
                      with equality if A^T A = B B^T. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From LoRA Require Import frobenius matrices square_roots thin_svd.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Gram.

Variable F : realFieldType.

Lemma gram_unit m n (X : 'M[F]_(m, n)) : \rank X = n -> X^T *m X \in unitmx.
Proof.
move=> full; rewrite -row_free_unit; apply: inj_row_free => v vXX.
have vX : v *m X^T = 0.
  by apply/eqP; rewrite -norm_eq0 /inner trmx_mul trmxK !mulmxA -(mulmxA v) vXX mul0mx mxtrace0.
by move/eqP: vX; rewrite mulmx_free_eq0 ?/row_free ?mxrank_tr ?full // => /eqP.
Qed.

Lemma gram0 m n (X : 'M[F]_(m, n)) : X *m X^T = 0 -> X = 0.
Proof. by move=> XX; apply/eqP; rewrite -norm_eq0 /inner XX mxtrace0. Qed.

(* Two matrices with the same Gram matrix X X^T, one of full column rank, differ by an orthogonal factor. *)
Lemma gram_orthogonal m n (X X' : 'M[F]_(m, n)) : \rank X = n -> X *m X^T = X' *m X'^T ->
  exists2 Q : 'M_n, Q *m Q^T = 1%:M & X' = X *m Q.
Proof.
move=> full same; pose G := X^T *m X; have G_unit : G \in unitmx := gram_unit full.
have G_sym : (invmx G)^T = invmx G by rewrite trmx_inv /G trmx_mul trmxK.
exists (invmx G *m X^T *m X').
  rewrite !trmx_mul trmxK G_sym !mulmxA -(mulmxA _ X') -same !mulmxA.
  by rewrite -!(mulmxA _ X^T X) -/G mulVmx // mul1mx mulmxV.
pose N := X' - X *m invmx G *m X^T *m X'.
suff /gram0/eqP : N *m N^T = 0 by rewrite subr_eq0 => /eqP {1}->; rewrite !mulmxA.
have -> : N = (1%:M - X *m invmx G *m X^T) *m X' by rewrite mulmxBl mul1mx.
rewrite trmx_mul !mulmxA -(mulmxA _ X') -same !mulmxA mulmxBl mul1mx -(mulmxA _ X^T X) -/G mulmxKV //.
by rewrite subrr !mul0mx.
Qed.

End Gram.

Section Pairs.

Variables (F : realFieldType) (a b r : nat).
Implicit Types (A X : 'M[F]_(a, r)) (B Y : 'M[F]_(r, b)) (Q O H : 'M[F]_r).

Definition balanced A B := A^T *m A = B *m B^T.

Lemma turned_balanced X Y O : O *m O^T = 1%:M -> balanced X Y -> balanced (X *m O) (O^T *m Y).
Proof. by rewrite /balanced !trmx_mul trmxK => OO flat; rewrite !mulmxA -(mulmxA O^T X^T X) flat !mulmxA. Qed.

Lemma turned_product X Y O : O *m O^T = 1%:M -> X *m O *m (O^T *m Y) = X *m Y.
Proof. by move=> OO; rewrite mulmxA -(mulmxA X) OO mulmx1. Qed.

Theorem balanced_orbit X Y X' Y' : balanced X Y -> balanced X' Y' -> X' *m Y' = X *m Y -> \rank (X *m Y) = r ->
  exists Q, [/\ Q *m Q^T = 1%:M, X' = X *m Q & Y' = Q^T *m Y].
Proof.
move=> flat flat' same rank_W.
have rank_X : \rank X = r.
  by apply/eqP; rewrite eqn_leq rank_leq_col -{1}rank_W mxrankM_maxl.
have [left _] := balanced_roots flat; have [left' _] := balanced_roots flat'; rewrite same in left'.
have [Q QQ X'E] := gram_orthogonal rank_X (root_unique left left').
exists Q; split=> //; have X_unit := gram_unit rank_X.
have QY : Q *m Y' = Y.
  by rewrite -[LHS](mulKmx X_unit) -[RHS](mulKmx X_unit) -!mulmxA (mulmxA X) -X'E same.
by rewrite -QY mulmxA (mulmx1C QQ) mul1mx.
Qed.

(* The inner product with a positive semidefinite matrix is largest for the identity among orthogonal matrices. *)
Lemma orthogonal_inner_le Q H : Q *m Q^T = 1%:M -> psd H -> <[Q, H]> <= \tr H.
Proof.
move=> QQ H_psd; have [H_sym _] := H_psd.
have := psd_ge0 (Q^T - 1%:M) H_psd.
have -> : <[Q^T - 1%:M, H *m (Q^T - 1%:M)]> = 2%:R * \tr H - 2%:R * <[Q, H]>.
  rewrite mulmxBr mulmx1 innerBl !innerBr.
  have -> : <[Q^T, H *m Q^T]> = \tr H by rewrite innerC inner_mulr trmxK (mulmx1C QQ) /inner trmx1 mulmx1.
  have -> : <[Q^T, H]> = <[Q, H]> by rewrite -{1}H_sym inner_tr.
  have -> : <[1%:M, H *m Q^T]> = <[Q, H]> by rewrite innerC inner_mulr trmxK mul1mx innerC.
  by rewrite /inner mul1mx H_sym; ring.
by rewrite -mulrBr pmulr_rge0 ?ltr0n // subr_ge0.
Qed.

Theorem nearest A B X Y O H : balanced X Y -> X *m Y = A *m B -> \rank (A *m B) = r ->
  O *m O^T = 1%:M -> psd H -> X^T *m A + Y *m B^T = O *m H ->
  [/\ balanced (X *m O) (O^T *m Y), X *m O *m (O^T *m Y) = A *m B &
   forall X' Y', balanced X' Y' -> X' *m Y' = A *m B ->
     |[X *m O - A]| + |[O^T *m Y - B]| <= |[X' - A]| + |[Y' - B]|].
Proof.
move=> flat same rank_W OO H_psd polar; split; rewrite ?turned_product ?same //.
  exact: turned_balanced.
move=> X' Y' flat' same'.
rewrite -same in rank_W same'; have [Q [QQ -> ->]] := balanced_orbit flat flat' same' rank_W.
have distance (P : 'M_r) : P *m P^T = 1%:M ->
    |[X *m P - A]| + |[P^T *m Y - B]| = |[X]| + |[A]| + |[Y]| + |[B]| - 2%:R * <[P, O *m H]>.
  move=> PP; rewrite !norm_sub (inner_orthor _ _ PP) inner_orthol ?trmxK // -polar innerDr.
  have -> : <[X *m P, A]> = <[P, X^T *m A]> by rewrite inner_mull.
  have -> : <[P^T *m Y, B]> = <[P, Y *m B^T]> by rewrite inner_mull trmxK innerC inner_mulr.
  by ring.
rewrite !distance // ler_add2l ler_opp2 ler_pmul2l ?ltr0n //.
have -> : <[Q, O *m H]> = <[O^T *m Q, H]> by rewrite [RHS]inner_mull trmxK.
have -> : <[O, O *m H]> = \tr H.
  by rewrite innerC inner_mull (mulmx1C OO) /inner trmx1 mulmx1.
by apply: orthogonal_inner_le; rewrite // trmx_mul trmxK mulmxA -(mulmxA _ Q) QQ mulmx1 (mulmx1C OO).
Qed.

Theorem smallest_norm A B (U : 'M_(a, r)) s (V : 'M_(b, r)) : thin_svd (A *m B) U s V ->
  2%:R * (\sum_i s 0 i) <= |[A]| + |[B]| /\
  (balanced A B -> |[A]| + |[B]| = 2%:R * (\sum_i s 0 i)).
Proof.
case=> UU VV s_ge0 _ WE.
have trace : \sum_i s 0 i = <[U^T *m A, (B *m V)^T]>.
  rewrite /inner trmxK !mulmxA -(mulmxA _ A) WE !mulmxA UU mul1mx -mulmxA VV mulmx1.
  by rewrite mxtrace_diag.
split.
  have bessel m (P : 'M[F]_(m, r)) n (N : 'M[F]_(m, n)) : P^T *m P = 1%:M -> |[P^T *m N]| <= |[N]|.
    move=> PP; rewrite -subr_ge0; have -> : |[N]| - |[P^T *m N]| = |[N - P *m (P^T *m N)]|.
      rewrite norm_sub (innerC N (P *m _)) !(inner_mull P) (mulmxA P^T P) PP mul1mx.
      by move: |[N]| |[P^T *m N]| => x y; ring.
    exact: norm_ge0.
  rewrite trace (le_trans (inner_le _ _)) // ler_add ?bessel //.
  by rewrite trmx_mul (le_trans (bessel _ _ _ _ VV)) // inner_tr.
move=> flat; have [left _] := balanced_roots flat.
have rootW : root (U *m diag_mx s *m U^T) (A *m B *m (A *m B)^T).
  split; first by rewrite -{1}[U]trmxK; apply/psd_congruence/diag_psd.
  by rewrite WE !trmx_mul trmxK tr_diag_mx !mulmxA -(mulmxA _ U^T) UU mulmx1 -[in RHS](mulmxA _ V^T) VV mulmx1.
have normA : |[A]| = \sum_i s 0 i.
  by rewrite /inner (root_unique left rootW) mxtrace_mulC mulmxA UU mul1mx mxtrace_diag.
have -> : |[B]| = |[A]| by rewrite /inner -flat mxtrace_mulC.
by rewrite normA; ring.
Qed.

End Pairs.
