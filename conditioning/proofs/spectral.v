(* The spectral theorem and the thin singular value decomposition over any real closed field, the real numbers among
   them: the hypotheses "W has a singular value decomposition" and "M has a square root" of other files hold.

   - spectral:         every symmetric S is Q diag(d) Q^T with Q orthogonal.
   - root_exists:      every positive semidefinite M has a positive semidefinite square root.
   - thin_svd_exists:  every W of rank r is U diag(s) V^T with U^T U = V^T V = 1 and s_1 >= ... >= s_r > 0.

   A root of the characteristic polynomial is in F[i], which is algebraically closed, and is real because S is
   symmetric; a reflection moves its eigenvector to the first basis vector; induction does the rest. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import complex ring.
From LoRA Require Import frobenius matrices square_roots thin_svd balanced_pairs.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Eigenvector.

Variable F : rcfType.
Local Notation C := F[i].

Lemma Re_scaled (u : C) (x : F) : complex.Re (u * x%:C%C) = complex.Re u * x.
Proof. by case: u => p q /=; rewrite mulr0 subr0. Qed.

Lemma Im_scaled (u : C) (x : F) : complex.Im (u * x%:C%C) = complex.Im u * x.
Proof. by case: u => p q /=; rewrite mulr0 add0r. Qed.

Lemma symmetric_eigenvector n (S : 'M[F]_n.+1) : S^T = S -> exists l (x : 'rV_n.+1), x != 0 /\ x *m S = l *: x.
Proof.
move=> S_sym; pose SC : 'M[C]_n.+1 := map_mx (real_complex F) S.
have /closed_rootP[z] : size (char_poly SC) != 1%N by rewrite size_char_poly.
rewrite -eigenvalue_root_char => /eigenvalueP[v vS v_neq0].
pose x : 'rV[F]_n.+1 := map_mx (@complex.Re F) v; pose y : 'rV[F]_n.+1 := map_mx (@complex.Im F) v.
have [p [q zE]] : exists p q, z = (p +i* q)%C.
  by exists (complex.Re z), (complex.Im z); case: (z).
have xS : x *m S = p *: x - q *: y.
  apply/rowP => j; have /rowP/(_ j) := vS; rewrite !mxE zE => /(congr1 (@complex.Re F)).
  rewrite raddf_sum /= => Re_eq; transitivity (complex.Re ((p +i* q)%C * v 0 j)).
    by rewrite -Re_eq; apply: eq_bigr => k _; rewrite !mxE Re_scaled.
  by case: (v 0 j).
have yS : y *m S = p *: y + q *: x.
  apply/rowP => j; have /rowP/(_ j) := vS; rewrite !mxE zE => /(congr1 (@complex.Im F)).
  rewrite raddf_sum /= => Im_eq; transitivity (complex.Im ((p +i* q)%C * v 0 j)).
    by rewrite -Im_eq; apply: eq_bigr => k _; rewrite !mxE Im_scaled.
  by case: (v 0 j).
have q0 : q = 0.
  have : <[x *m S, y]> = <[x, y *m S]> by rewrite inner_mulr S_sym.
  rewrite xS yS innerBl innerDr !innerZl !innerZr => /eqP; rewrite -subr_eq0.
  have -> : p * <[x, y]> - q * |[y]| - (p * <[x, y]> + q * |[x]|) = - (q * (|[x]| + |[y]|)) by ring.
  rewrite oppr_eq0 mulf_eq0 paddr_eq0 ?norm_ge0 // !norm_eq0 => /orP[/eqP //|/andP[/eqP x0 /eqP y0]].
  case/eqP: v_neq0; apply/rowP => j; have /rowP/(_ j) := x0; have /rowP/(_ j) := y0; rewrite !mxE.
  by case: (v 0 j) => ? ? /= -> ->.
rewrite q0 in xS yS; rewrite scale0r subr0 in xS; rewrite scale0r addr0 in yS.
have [x0|x_neq0] := eqVneq x 0; last by exists p, x.
exists p, y; split=> //; apply: contraNneq v_neq0 => y0.
apply/eqP/rowP => j; have /rowP/(_ j) := x0; have /rowP/(_ j) := y0; rewrite !mxE.
by case: (v 0 j) => ? ? /= -> ->.
Qed.

End Eigenvector.

Section Spectral.

Variable F : rcfType.

Lemma row_inner n (x y : 'rV[F]_n) : x *m y^T = <[x, y]>%:M.
Proof. by rewrite [LHS]mx11_scalar -trace_mx11. Qed.

(* A reflection that swaps two vectors of the same length. *)
Lemma reflection n (x y : 'rV[F]_n) : |[x]| = |[y]| -> exists H, [/\ H^T = H, H *m H = 1%:M & y *m H = x].
Proof.
move=> same; have [->|xy] := eqVneq x y; first by exists 1%:M; rewrite trmx1 !mulmx1.
pose w := y - x; pose c := 2%:R / |[w]|; exists (1%:M - c *: (w^T *m w)).
have w_neq0 : |[w]| != 0 by rewrite norm_eq0 subr_eq0 eq_sym.
have two : 2%:R * <[y, w]> = |[w]| by rewrite /w norm_sub innerBr same; ring.
split; first by expand.
  have square : (w^T *m w) *m (w^T *m w) = |[w]| *: (w^T *m w).
    by rewrite mulmxA -(mulmxA w^T) row_inner mul_mx_scalar -scalemxAl.
  rewrite mulmxBr mulmx1 mulmxBl mul1mx -scalemxAl -scalemxAr square !scalerA.
  rewrite (_ : c * (c * |[w]|) = c + c); last by rewrite /c divfK //; ring.
  by rewrite scalerDl; collect.
rewrite mulmxBr mulmx1 -scalemxAr mulmxA row_inner mul_scalar_mx scalerA.
rewrite (_ : c * <[y, w]> = 1); last by rewrite /c mulrAC two mulfV.
by rewrite scale1r opprB addrC subrK.
Qed.

Theorem spectral n (S : 'M[F]_n) : S^T = S ->
  exists (Q : 'M_n) (d : 'rV_n), Q *m Q^T = 1%:M /\ S = Q *m diag_mx d *m Q^T.
Proof.
elim: n S => [S _|n IH S S_sym]; first by exists 1%:M, 0; split; apply/matrixP => - [].
have [l [x [x_neq0 xS]]] := symmetric_eigenvector S_sym.
have x_gt0 : 0 < |[x]| by rewrite norm_gt0.
pose e := Num.sqrt |[x]|; have e_neq0 : e != 0 by rewrite gt_eqF // sqrtr_gt0.
have ee : e * e = |[x]| by rewrite -expr2 sqr_sqrtr // ltW.
pose u : 'rV[F]_(1 + n) := e^-1 *: x; pose e0 : 'rV[F]_(1 + n) := row_mx 1%:M 0.
have e0_unit : |[e0]| = 1 by rewrite inner_row inner0l addr0 /inner trmx1 mulmx1 mxtrace1.
have u_unit : |[u]| = 1 by rewrite /u innerZl innerZr -ee; field.
have [|H [H_sym HH e0H]] := @reflection _ u e0; first by rewrite u_unit e0_unit.
have uH : u *m H = e0 by rewrite -e0H -mulmxA HH mulmx1.
pose T : 'M_(1 + n) := H *m (S : 'M_(1 + n)) *m H.
have T_sym : T^T = T by rewrite /T !trmx_mul H_sym S_sym mulmxA.
have e0T : e0 *m T = row_mx l%:M 0.
  rewrite /T !mulmxA e0H /u -scalemxAl xS scalerA mulrC -scalerA -scalemxAl -/u uH /e0 scale_row_mx.
  by rewrite scaler0 scale_scalar_mx mulr1.
have [ul ur] : ulsubmx T = l%:M /\ ursubmx T = 0.
  apply/eq_row_mx; rewrite -e0T -[T in RHS]submxK mul_row_block !mul1mx !mul0mx !addr0.
  by [].
have dl : dlsubmx T = 0 by rewrite -T_sym -trmx_ursub ur trmx0.
have dr_sym : (drsubmx T)^T = drsubmx T by rewrite trmx_drsub T_sym.
have [Q [d [QQ dE]]] := IH _ dr_sym.
pose K : 'M_(1 + n) := block_mx 1%:M 0 0 Q; pose D : 'M_(1 + n) := diag_mx (row_mx l%:M d).
have KK : K *m K^T = 1%:M.
  rewrite /K tr_block_mx !trmx0 trmx1 mulmx_block.
  by rewrite ?(mul1mx, mulmx1, mul0mx, mulmx0, addr0, add0r) QQ -scalar_mx_block.
have TE : T = K *m D *m K^T.
  rewrite -[LHS]submxK ul ur dl dE /K /D tr_block_mx !trmx0 trmx1 diag_mx_row !mulmx_block.
  rewrite ?(mul1mx, mulmx1, mul0mx, mulmx0, addr0, add0r); congr block_mx.
  by apply/matrixP => i j; rewrite !mxE !ord1.
have PP : H *m K *m (H *m K)^T = 1%:M by rewrite trmx_mul H_sym !mulmxA -(mulmxA H K) KK mulmx1.
have SE : S = H *m K *m D *m (H *m K)^T.
  transitivity (H *m T *m H); first by rewrite /T !mulmxA HH mul1mx -mulmxA HH mulmx1.
  by rewrite TE trmx_mul H_sym !mulmxA.
by exists (H *m K), (row_mx l%:M d); split; [exact: PP | exact: SE].
Qed.

End Spectral.

Section Decomposition.

Variable F : rcfType.

Lemma psd_diagonal n (P : 'M[F]_n) i : psd P -> 0 <= P i i.
Proof.
case=> _ /(_ (delta_mx i 0)); rewrite -colE innerE (bigD1 i) //= big_ord1 !mxE eqxx mul1r big1 ?addr0 // => k ki.
by rewrite big_ord1 !mxE (negPf ki) mul0r.
Qed.

Theorem root_exists n (M : 'M[F]_n) : psd M -> exists P, root P M.
Proof.
move=> M_psd; have [M_sym _] := M_psd; have [Q [d [QQ ME]]] := spectral M_sym.
have d_ge0 i : 0 <= d 0 i.
  have := psd_diagonal i (psd_congruence Q M_psd).
  by rewrite ME !mulmxA (mulmx1C QQ) mul1mx -mulmxA (mulmx1C QQ) mulmx1 !mxE eqxx.
pose e : 'rV_n := \row_i Num.sqrt (d 0 i).
exists (Q *m diag_mx e *m Q^T); split.
  by rewrite -{1}[Q]trmxK; apply/psd_congruence/diag_psd => i; rewrite mxE sqrtr_ge0.
rewrite ME !mulmxA -(mulmxA _ Q^T) (mulmx1C QQ) mulmx1 -(mulmxA Q (diag_mx e)) mulmx_diag.
by congr (_ *m diag_mx _ *m _); apply/rowP => i; rewrite !mxE -expr2 sqr_sqrtr.
Qed.

(* The columns of the positive entries of d, in descending order. *)
Lemma positive_places n (d : 'rV[F]_n) : exists k (f : 'I_k -> 'I_n),
  [/\ injective f, (forall i, d 0 (f i) != 0), (forall i j : 'I_k, (i <= j)%N -> d 0 (f j) <= d 0 (f i))
    & forall j, d 0 j != 0 -> exists i, f i = j].
Proof.
pose ge i j := d 0 j <= d 0 i.
pose s := sort ge [seq j <- enum 'I_n | d 0 j != 0].
have s_uniq : uniq s by rewrite sort_uniq filter_uniq ?enum_uniq.
have s_mem j : (j \in s) = (d 0 j != 0) by rewrite mem_sort mem_filter mem_enum andbT.
have s_sorted : sorted ge s by apply: sort_sorted => i j; apply: le_total.
exists (size s), (tnth (in_tuple s)); split=> [i j|i|i j ij|j dj].
- have [x0 _] : exists x : 'I_n, true by exists (tnth (in_tuple s) i).
  by rewrite !(tnth_nth x0) => /eqP; rewrite nth_uniq // => /eqP/val_inj.
- by rewrite -s_mem mem_tnth.
- have [x0 _] : exists x : 'I_n, true by exists (tnth (in_tuple s) i).
  have ge_trans : transitive ge by move=> x y z yx zy; apply: le_trans zy yx.
  have ge_refl : reflexive ge by move=> x; apply: lexx.
  by rewrite !(tnth_nth x0); apply: (sorted_leq_nth ge_trans ge_refl x0 s_sorted); rewrite ?inE.
- by rewrite -s_mem in dj; have /tnthP[i ->] : j \in in_tuple s by []; exists i.
Qed.

Theorem thin_svd_exists a b r (W : 'M[F]_(a, b)) : \rank W = r ->
  exists (U : 'M_(a, r)) s (V : 'M_(b, r)), thin_svd W U s V.
Proof.
have M_psd : psd (W^T *m W) by rewrite -{2}[W]trmxK; apply: gram_psd.
have [M_sym _] := M_psd; have [Q [d [QQ ME]]] := spectral M_sym; have QQ' := mulmx1C QQ.
have d_ge0 i : 0 <= d 0 i.
  have := psd_diagonal i (psd_congruence Q M_psd).
  by rewrite ME !mulmxA QQ' mul1mx -mulmxA QQ' mulmx1 !mxE eqxx.
have [k [f [f_inj f_pos f_desc f_onto]]] := positive_places d.
pose E : 'M[F]_(b, k) := \matrix_(j, i) (j == f i)%:R.
have EX (X : 'M[F]_b) : E^T *m X *m E = \matrix_(i, j) X (f i) (f j).
  apply/matrixP => i j; rewrite !mxE (bigD1 (f j)) //= big1 ?addr0 => [|l lj]; last by rewrite !mxE (negPf lj) mulr0.
  rewrite !mxE eqxx mulr1 (bigD1 (f i)) //= big1 ?addr0 => [|l li]; last by rewrite !mxE (negPf li) mul0r.
  by rewrite !mxE eqxx mul1r.
have EE : E^T *m E = 1%:M.
  by rewrite -[E^T]mulmx1 EX; apply/matrixP => i j; rewrite !mxE (inj_eq f_inj).
have DE : diag_mx d *m E *m E^T = diag_mx d.
  apply/matrixP => j l; rewrite -mulmxA mul_diag_mx !mxE.
  have [->|dj] := eqVneq (d 0 j) 0; first by rewrite mul0r mul0rn.
  have [i ij] := f_onto j dj; rewrite (bigD1 i) //= big1 ?addr0 => [|m mi].
    by rewrite !mxE ij eqxx mul1r eq_sym mulr_natr.
  by rewrite !mxE -ij (inj_eq f_inj) eq_sym (negPf mi) mul0r.
pose s : 'rV[F]_k := \row_i Num.sqrt (d 0 (f i)).
have s_gt0 i : 0 < s 0 i by rewrite mxE sqrtr_gt0 lt_def f_pos d_ge0.
have [t st] := inverse_diag s_gt0.
have ts := mulmx1C st.
have VV : (Q *m E)^T *m (Q *m E) = 1%:M.
  by rewrite trmx_mul !mulmxA -(mulmxA _ Q^T Q) QQ' mulmx1 EE.
have WW : (W *m (Q *m E))^T *m (W *m (Q *m E)) = diag_mx s *m diag_mx s.
  rewrite !trmx_mul !mulmxA -(mulmxA _ W^T W) ME !mulmxA -(mulmxA _ Q^T Q) QQ' mulmx1 -!mulmxA (mulmxA Q^T).
  rewrite QQ' mul1mx mulmxA EX mulmx_diag; apply/matrixP => i j; rewrite !mxE (inj_eq f_inj).
  by rewrite -expr2 sqr_sqrtr.
have WE : W *m (Q *m E) *m (Q *m E)^T = W.
  pose N := W - W *m (Q *m E) *m (Q *m E)^T; suff : N = 0 by move/eqP; rewrite subr_eq0 => /eqP.
  have NE : N = W *m Q *m (1%:M - E *m E^T) *m Q^T.
    by rewrite /N trmx_mul mulmxBr mulmx1 mulmxBl -(mulmxA W Q Q^T) QQ mulmx1 !mulmxA.
  apply: trmx_inj; rewrite trmx0; apply: gram0; rewrite trmxK NE !trmx_mul !trmxK !mulmxA -(mulmxA _ W^T W) ME.
  have -> : (1%:M - E *m E^T)^T = 1%:M - E *m E^T by rewrite trmxB trmx1 trmx_mul trmxK.
  rewrite !mulmxA -(mulmxA _ Q^T Q) QQ' mulmx1 -(mulmxA _ Q^T Q) QQ' mulmx1.
  by rewrite -(mulmxA _ (diag_mx d)) mulmxBr mulmx1 mulmxA DE subrr mulmx0 mul0mx.
pose U := W *m (Q *m E) *m diag_mx t.
have dec : thin_svd W U s (Q *m E).
  split=> // [|i|i j ij|].
  - move: WW; rewrite /U; move: (W *m (Q *m E)) => P WW.
    by rewrite trmx_mul tr_diag_mx mulmxA -(mulmxA (diag_mx t)) WW !mulmxA ts mul1mx st.
  - exact: ltW.
  - by rewrite !mxE ler_wsqrtr ?f_desc.
  - by rewrite /U -(mulmxA _ (diag_mx t)) ts mulmx1 WE.
have -> : \rank W = k; last by move=> <-; exists U, s, (Q *m E).
apply/eqP; rewrite eqn_leq; have [UU _ _ _ WD] := dec; apply/andP; split.
  by rewrite WD (leq_trans (mxrankM_maxr _ _)) // rank_leq_row.
have full (P : 'M_(a, k)) (R : 'M_(b, k)) : P^T *m P = 1%:M -> R^T *m R = 1%:M -> W = P *m diag_mx s *m R^T ->
    P^T *m W *m (R *m diag_mx t) = 1%:M.
  by move=> PP RR ->; rewrite !mulmxA PP mul1mx -(mulmxA (diag_mx s)) RR mulmx1 st.
have -> : k = \rank (U^T *m W *m (Q *m E *m diag_mx t)) by rewrite (full _ _ UU VV WD) mxrank1.
by rewrite (leq_trans (mxrankM_maxl _ _)) // mxrankM_maxr.
Qed.

End Decomposition.
