from .bounds import (
    KappaBounds as KappaBounds,
)
from .bounds import (
    kappa_bounds as kappa_bounds,
)
from .bounds import (
    model2_kappa_bound as model2_kappa_bound,
)
from .bounds import (
    tangent_basis as tangent_basis,
)
from .checks import (
    DegenerateTargetError as DegenerateTargetError,
)
from .checks import (
    NotAMinimizerError as NotAMinimizerError,
)
from .checks import (
    OutOfRangeError as OutOfRangeError,
)
from .factors import (
    change_gauge as change_gauge,
)
from .factors import (
    jacobian as jacobian,
)
from .factors import (
    loss as loss,
)
from .factors import (
    minimizer as minimizer,
)
from .fisher_gauge import (
    FisherBalanced as FisherBalanced,
)
from .fisher_gauge import (
    fisher_balance as fisher_balance,
)
from .fisher_gauge import (
    fisher_gauge as fisher_gauge,
)
from .fisher_gauge import (
    transport_second_moments as transport_second_moments,
)
from .gauge_certificate import (
    GaugeCertificate as GaugeCertificate,
)
from .gauge_certificate import (
    lower_bound_from_factor as lower_bound_from_factor,
)
from .gauge_certificate import (
    lower_bound_over_gauges as lower_bound_over_gauges,
)
from .gauge_certificate import (
    partial_traces as partial_traces,
)
from .gauge_optimization import (
    NoOptimalGaugeError as NoOptimalGaugeError,
)
from .gauge_optimization import (
    OptimalGauge as OptimalGauge,
)
from .gauge_optimization import (
    optimal_gauge as optimal_gauge,
)
from .gauge_optimization import (
    optimal_gauge_from_factor as optimal_gauge_from_factor,
)
from .gauge_optimization import (
    optimal_gauge_from_products as optimal_gauge_from_products,
)
from .gauge_optimization import (
    optimal_gauge_from_traces as optimal_gauge_from_traces,
)
from .hessians import (
    hessian as hessian,
)
from .hessians import (
    model2_hessian as model2_hessian,
)
from .hessians import (
    model2_jacobian as model2_jacobian,
)
from .hessians import (
    two_layer_hessian as two_layer_hessian,
)
from .imbalance_regularization import (
    imbalance as imbalance,
)
from .imbalance_regularization import (
    imbalance_penalty as imbalance_penalty,
)
from .imbalance_regularization import (
    paper_ratio as paper_ratio,
)
from .imbalance_regularization import (
    penalty_gradient as penalty_gradient,
)
from .imbalance_regularization import (
    penalty_step as penalty_step,
)
from .imbalance_regularization import (
    stable_penalty_step as stable_penalty_step,
)
from .imbalance_regularization import (
    trained_penalty_step as trained_penalty_step,
)
from .manifold import (
    balancing_gap as balancing_gap,
)
from .manifold import (
    is_balanced as is_balanced,
)
from .manifold import (
    is_hyperbalanced as is_hyperbalanced,
)
from .manifold import (
    tangent_projection as tangent_projection,
)
from .preconditioning import (
    preconditioned_extremes as preconditioned_extremes,
)
from .preconditioning import (
    preconditioned_hessian as preconditioned_hessian,
)
from .preconditioning import (
    preconditioned_spectrum as preconditioned_spectrum,
)
from .preconditioning import (
    scaled_gradient as scaled_gradient,
)
from .product_difference import (
    ProductChange as ProductChange,
)
from .product_difference import (
    ProductDifference as ProductDifference,
)
from .product_difference import (
    product_change as product_change,
)
from .product_difference import (
    product_difference as product_difference,
)
from .projection import (
    GAUGES as GAUGES,
)
from .projection import (
    balance as balance,
)
from .rank_rules import (
    RankRule as RankRule,
)
from .rank_rules import (
    entropy_rank as entropy_rank,
)
from .rank_rules import (
    stable_rank as stable_rank,
)
from .rank_rules import (
    truncation_error as truncation_error,
)
from .rates import (
    SharpSignRate as SharpSignRate,
)
from .rates import (
    gd_rate as gd_rate,
)
from .rates import (
    sharp_sign_gd_rate as sharp_sign_gd_rate,
)
from .rates import (
    sign_gd_rate as sign_gd_rate,
)
from .refactoring import (
    refactored_gradient as refactored_gradient,
)
from .spectra import (
    ExtremeEigenvalues as ExtremeEigenvalues,
)
from .spectra import (
    balanced_condition_number as balanced_condition_number,
)
from .spectra import (
    condition_number as condition_number,
)
from .spectra import (
    extreme_eigenvalues as extreme_eigenvalues,
)
from .spectra import (
    imbalanced_condition_number as imbalanced_condition_number,
)
from .spectra import (
    model2_condition_number as model2_condition_number,
)
from .spectra import (
    spectrum as spectrum,
)
from .truncation import (
    ProductSVD as ProductSVD,
)
from .truncation import (
    product_svd as product_svd,
)
from .truncation import (
    truncate as truncate,
)
from .weighted import (
    optimal_gauge_of_pair as optimal_gauge_of_pair,
)
from .weighted import (
    weighted_condition_number as weighted_condition_number,
)
from .weighted import (
    weighted_hessian as weighted_hessian,
)
from .weighted import (
    weighted_minimizer as weighted_minimizer,
)
from .weighted import (
    weighted_spectrum as weighted_spectrum,
)
