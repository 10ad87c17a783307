(* What all files share: the Frobenius inner product <A, B> = tr A B^T and the squared norm |A|^2 = <A, A>.

   Over any commutative ring: symmetry, bilinearity, adjoints of multiplications, blocks. Over any ordered field:
   positivity and 2 <A, B> <= |A|^2 + |B|^2, which stands in for the inequality of Cauchy and Schwarz. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Definition inner (R : comRingType) m n (A B : 'M[R]_(m, n)) : R := \tr (A *m B^T).

Notation "<[ A , B ]>" := (inner A B) (at level 0, A at level 99, B at level 99, format "<[ A ,  B ]>").
Notation "|[ A ]|" := (inner A A) (at level 0, A at level 99, format "|[ A ]|").

Section Bilinear.

Variable R : comRingType.
Implicit Types m n p q : nat.

Lemma innerE m n (A B : 'M[R]_(m, n)) : <[A, B]> = \sum_i \sum_j A i j * B i j.
Proof. by apply: eq_bigr => i _; rewrite mxE; apply: eq_bigr => j _; rewrite mxE. Qed.

Lemma innerC m n (A B : 'M[R]_(m, n)) : <[A, B]> = <[B, A]>.
Proof. by rewrite /inner -mxtrace_tr trmx_mul trmxK. Qed.

Lemma innerDl m n (A B C : 'M[R]_(m, n)) : <[A + B, C]> = <[A, C]> + <[B, C]>.
Proof. by rewrite /inner mulmxDl raddfD. Qed.

Lemma innerDr m n (A B C : 'M[R]_(m, n)) : <[C, A + B]> = <[C, A]> + <[C, B]>.
Proof. by rewrite !(innerC C) innerDl. Qed.

Lemma innerNl m n (A B : 'M[R]_(m, n)) : <[- A, B]> = - <[A, B]>.
Proof. by rewrite /inner mulNmx raddfN. Qed.

Lemma innerNr m n (A B : 'M[R]_(m, n)) : <[A, - B]> = - <[A, B]>.
Proof. by rewrite !(innerC A) innerNl. Qed.

Lemma innerBl m n (A B C : 'M[R]_(m, n)) : <[A - B, C]> = <[A, C]> - <[B, C]>.
Proof. by rewrite innerDl innerNl. Qed.

Lemma innerBr m n (A B C : 'M[R]_(m, n)) : <[C, A - B]> = <[C, A]> - <[C, B]>.
Proof. by rewrite innerDr innerNr. Qed.

Lemma innerZl m n c (A B : 'M[R]_(m, n)) : <[c *: A, B]> = c * <[A, B]>.
Proof. by rewrite /inner -scalemxAl mxtraceZ. Qed.

Lemma innerZr m n c (A B : 'M[R]_(m, n)) : <[A, c *: B]> = c * <[A, B]>.
Proof. by rewrite !(innerC A) innerZl. Qed.

Lemma inner0l m n (A : 'M[R]_(m, n)) : <[0, A]> = 0.
Proof. by rewrite /inner mul0mx mxtrace0. Qed.

Lemma inner0r m n (A : 'M[R]_(m, n)) : <[A, 0]> = 0.
Proof. by rewrite innerC inner0l. Qed.

Lemma inner_suml (I : Type) (s : seq I) (P : pred I) m n (F : I -> 'M[R]_(m, n)) A :
  <[\sum_(i <- s | P i) F i, A]> = \sum_(i <- s | P i) <[F i, A]>.
Proof. by rewrite /inner mulmx_suml raddf_sum. Qed.

Lemma inner_sumr (I : Type) (s : seq I) (P : pred I) m n (F : I -> 'M[R]_(m, n)) A :
  <[A, \sum_(i <- s | P i) F i]> = \sum_(i <- s | P i) <[A, F i]>.
Proof. by rewrite innerC inner_suml; apply: eq_bigr => i _; rewrite innerC. Qed.

Lemma inner_tr m n (A B : 'M[R]_(m, n)) : <[A^T, B^T]> = <[A, B]>.
Proof. by rewrite /inner trmxK mxtrace_mulC -mxtrace_tr trmx_mul trmxK. Qed.

(* Adjoints: a factor on one side is its transpose on the other. *)

Lemma inner_mull m n p (P : 'M[R]_(m, n)) (A : 'M_(n, p)) B : <[P *m A, B]> = <[A, P^T *m B]>.
Proof. by rewrite /inner trmx_mul trmxK mulmxA [RHS]mxtrace_mulC mulmxA. Qed.

Lemma inner_mulr m n p (A : 'M[R]_(m, n)) (P : 'M_(n, p)) B : <[A *m P, B]> = <[A, B *m P^T]>.
Proof. by rewrite /inner trmx_mul trmxK mulmxA. Qed.

(* Orthogonal factors keep it. *)

Lemma inner_orthol m n (U : 'M[R]_m) (A B : 'M_(m, n)) : U^T *m U = 1%:M -> <[U *m A, U *m B]> = <[A, B]>.
Proof. by move=> UU; rewrite inner_mull mulmxA UU mul1mx. Qed.

Lemma inner_orthor m n (V : 'M[R]_n) (A B : 'M_(m, n)) : V *m V^T = 1%:M -> <[A *m V, B *m V]> = <[A, B]>.
Proof. by move=> VV; rewrite inner_mulr -mulmxA VV mulmx1. Qed.

(* Blocks add up. *)

Lemma inner_col m n p (A A' : 'M[R]_(m, p)) (B B' : 'M_(n, p)) :
  <[col_mx A B, col_mx A' B']> = <[A, A']> + <[B, B']>.
Proof. by rewrite /inner tr_col_mx mul_col_row mxtrace_block. Qed.

Lemma inner_row m n p (A A' : 'M[R]_(p, m)) (B B' : 'M_(p, n)) :
  <[row_mx A B, row_mx A' B']> = <[A, A']> + <[B, B']>.
Proof. by rewrite /inner tr_row_mx mul_row_col mxtraceD. Qed.

Lemma inner_block m n p q (A A' : 'M[R]_(m, p)) (B B' : 'M_(m, q)) (C C' : 'M_(n, p)) (D D' : 'M_(n, q)) :
  <[block_mx A B C D, block_mx A' B' C' D']> = <[A, A']> + <[B, B']> + (<[C, C']> + <[D, D']>).
Proof. by rewrite !block_mxEv inner_col !inner_row. Qed.

(* Columns u, v: <u v^T, A> = <u, A v>, and |u v^T|^2 = |u|^2 |v|^2. *)

Lemma inner_outer m n (u u' : 'cV[R]_m) (v v' : 'cV_n) : <[u *m v^T, u' *m v'^T]> = <[u, u']> * <[v, v']>.
Proof.
rewrite inner_mulr trmxK -mulmxA [v'^T *m v]mx11_scalar mul_mx_scalar innerZr mulrC; congr (_ * _).
by rewrite /inner [v *m v'^T]lock -lock mxtrace_mulC /mxtrace big_ord1.
Qed.

Lemma inner_delta m n (A : 'M[R]_(m, n)) i j : <[delta_mx i j, A]> = A i j.
Proof.
rewrite innerE (bigD1 i) //= (bigD1 j) //= !mxE !eqxx mul1r !big1 ?addr0 // => [k /negbTE ne|k /negbTE ne].
  by apply: big1 => l _; rewrite mxE ne mul0r.
by rewrite mxE ne andbF mul0r.
Qed.

End Bilinear.

Section Positive.

Variable R : realDomainType.
Implicit Types m n : nat.

Lemma norm_ge0 m n (A : 'M[R]_(m, n)) : 0 <= |[A]|.
Proof. by rewrite innerE; apply: sumr_ge0 => i _; apply: sumr_ge0 => j _; rewrite -expr2 sqr_ge0. Qed.

Lemma norm_eq0 m n (A : 'M[R]_(m, n)) : (|[A]| == 0) = (A == 0).
Proof.
apply/idP/eqP => [|->]; last by rewrite inner0l.
rewrite innerE psumr_eq0 => [/allP rows|i _]; last by apply: sumr_ge0 => j _; rewrite -expr2 sqr_ge0.
apply/matrixP => i j; move: (rows i (mem_index_enum i)); rewrite /= psumr_eq0 => [/allP row|k _]; last first.
  by rewrite -expr2 sqr_ge0.
by move: (row j (mem_index_enum j)); rewrite /= -expr2 sqrf_eq0 mxE => /eqP.
Qed.

Lemma norm_gt0 m n (A : 'M[R]_(m, n)) : (0 < |[A]|) = (A != 0).
Proof. by rewrite lt_def norm_ge0 andbT norm_eq0. Qed.

Lemma norm_add m n (A B : 'M[R]_(m, n)) : |[A + B]| = |[A]| + 2%:R * <[A, B]> + |[B]|.
Proof. by rewrite innerDl !innerDr (innerC B A); ring. Qed.

Lemma norm_sub m n (A B : 'M[R]_(m, n)) : |[A - B]| = |[A]| - 2%:R * <[A, B]> + |[B]|.
Proof. by rewrite innerBl !innerBr (innerC B A); ring. Qed.

Lemma inner_le m n (A B : 'M[R]_(m, n)) : 2%:R * <[A, B]> <= |[A]| + |[B]|.
Proof. by rewrite -subr_ge0 addrAC -norm_sub norm_ge0. Qed.

(* Equality holds for equal arguments only. *)

Lemma inner_le_eq m n (A B : 'M[R]_(m, n)) : (2%:R * <[A, B]> == |[A]| + |[B]|) = (A == B).
Proof. by rewrite eq_sym -subr_eq0 addrAC -norm_sub norm_eq0 subr_eq0. Qed.

(* With a weight, 2 t <A, B> <= t^2 |A|^2 + |B|^2. *)

Lemma inner_le_weighted m n t (A B : 'M[R]_(m, n)) : 2%:R * t * <[A, B]> <= t ^+ 2 * |[A]| + |[B]|.
Proof. by move: (inner_le (t *: A) B); rewrite !innerZl !innerZr mulrA expr2 mulrA. Qed.

Lemma norm_row m n (A : 'M[R]_(m, n)) : |[A]| = \sum_i |[row i A]|.
Proof.
rewrite innerE; apply: eq_bigr => i _; rewrite innerE big_ord1; apply: eq_bigr => j _.
by rewrite !mxE.
Qed.

Lemma norm_col m n (A : 'M[R]_(m, n)) : |[A]| = \sum_j |[col j A]|.
Proof.
by rewrite -inner_tr norm_row; apply: eq_bigr => j _; rewrite -[RHS]inner_tr tr_col.
Qed.

End Positive.
