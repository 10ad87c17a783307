(* Eigenvalues with multiplicity, as roots of the characteristic polynomial.

   - diagonalized M Q d: Q is orthogonal and M Q = Q diag(d), a spectral decomposition of M; then
     det(x I - M) = (x - d_1) ... (x - d_n).
   - eigenbasis: if n nonzero vectors of R^n are orthogonal to each other and M takes each to a multiple of itself,
     det(x I - M) is the product of x minus these factors. *)

From mathcomp Require Import all_ssreflect all_algebra.
From LoRA Require Import frobenius condition_number.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section CharacteristicPolynomial.

Variable F : realFieldType.

Lemma char_poly_similar n (P M D : 'M[F]_n) : P \in unitmx -> P *m M = D *m P -> char_poly M = char_poly D.
Proof.
move=> Pu E; have : map_mx polyC P *m char_poly_mx M = char_poly_mx D *m map_mx polyC P.
  by rewrite /char_poly_mx mulmxBr mulmxBl -!map_mxM E mul_mx_scalar mul_scalar_mx.
move=> /(congr1 determinant); rewrite !det_mulmx [RHS]mulrC; apply: mulfI.
by rewrite det_map_mx polyC_eq0 -unitfE -unitmxE.
Qed.

Lemma char_poly_diag n (d : 'rV[F]_n) : char_poly (diag_mx d) = \prod_i ('X - (d 0 i)%:P).
Proof.
rewrite char_poly_trig; last exact: diag_mx_is_trig.
by apply: eq_bigr => i _; rewrite mxE eqxx mulr1n.
Qed.

(* M Q = Q diag(d) with orthogonal Q. *)
Definition diagonalized n (M Q : 'M[F]_n) (d : 'rV_n) : Prop := Q^T *m Q = 1%:M /\ M *m Q = Q *m diag_mx d.

Lemma diagonalized_char_poly n (M Q : 'M[F]_n) d : diagonalized M Q d -> char_poly M = \prod_i ('X - (d 0 i)%:P).
Proof.
case=> QQ E; rewrite -char_poly_diag; apply: esym; apply: (@char_poly_similar _ Q) => //.
by case/mulmx1_unit: QQ.
Qed.

Lemma diagonalized_col n (M Q : 'M[F]_n) d i : diagonalized M Q d -> M *m col i Q = d 0 i *: col i Q.
Proof.
case=> _ E; rewrite -col_mul E; apply/matrixP => k l; rewrite !mxE (bigD1 i) //= big1 => [|j /negbTE ne].
  by rewrite !mxE eqxx mulr1n addr0 mulrC.
by rewrite !mxE ne mulr0n mulr0.
Qed.

Lemma inner_cols n (Q : 'M[F]_n) i j : Q^T *m Q = 1%:M -> <[col i Q, col j Q]> = (i == j)%:R.
Proof.
move=> /matrixP /(_ i j); rewrite !mxE => <-; rewrite innerE; apply: eq_bigr => k _.
by rewrite big_ord1 !mxE.
Qed.

(* Nonzero orthogonal eigenvectors, as many as there are dimensions, have all eigenvalues. *)
Lemma eigenbasis n (M : 'M[F]_n) (T : finType) (e : T -> 'rV_n) (eigenvalue : T -> F) :
  #|T| = n -> (forall t u, t != u -> <[e t, e u]> = 0) -> (forall t, 0 < |[e t]|) ->
  (forall t, e t *m M = eigenvalue t *: e t) -> char_poly M = \prod_t ('X - (eigenvalue t)%:P).
Proof.
move=> cardT; subst n => perp pos eigen.
pose P := \matrix_(i < #|T|) e (enum_val i); pose d : 'rV_#|T| := \row_i eigenvalue (enum_val i).
have PP : P *m P^T = diag_mx (\row_i |[e (enum_val i)]|).
  apply/matrixP => i j; rewrite !mxE; have -> : \sum_k P i k * P^T k j = <[e (enum_val i), e (enum_val j)]>.
    by rewrite innerE big_ord1; apply: eq_bigr => k _; rewrite !mxE.
  by case: eqP => [->|/eqP ne]; rewrite ?mulr1n // perp // (inj_eq enum_val_inj).
have Pu : P \in unitmx.
  suff : P *m P^T \in unitmx by rewrite unitmx_mul => /andP[].
  by rewrite PP unitmxE unitfE det_diag; apply/prodf_neq0 => i _; rewrite mxE gt_eqF.
rewrite (@char_poly_similar _ P M (diag_mx d)) //; last first.
  apply/row_matrixP => i; rewrite row_mul rowK eigen mul_diag_mx.
  by apply/rowP => j; rewrite !mxE.
rewrite char_poly_diag (reindex (@enum_val _ T)) /=; last by apply: onW_bij; exact: enum_val_bij.
by apply: eq_bigr => i _; rewrite mxE.
Qed.

End CharacteristicPolynomial.
