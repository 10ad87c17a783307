from .conditioning.bounds import kappa_bounds as kappa_bounds
from .conditioning.factors import change_gauge as change_gauge
from .conditioning.factors import minimizer as minimizer
from .conditioning.gauge_optimization import optimal_gauge as optimal_gauge
from .conditioning.hessians import hessian as hessian
from .conditioning.manifold import balancing_gap as balancing_gap
from .conditioning.manifold import is_balanced as is_balanced
from .conditioning.projection import balance as balance
from .conditioning.rank_rules import RankRule as RankRule
from .conditioning.spectra import (
    balanced_condition_number as balanced_condition_number,
)
from .conditioning.spectra import (
    condition_number as condition_number,
)
from .conditioning.spectra import (
    extreme_eigenvalues as extreme_eigenvalues,
)
from .conditioning.spectra import (
    spectrum as spectrum,
)
from .conditioning.truncation import truncate as truncate
from .llm.adapters.balancing import balance_model as balance_model
from .llm.adapters.callbacks import BalanceCallback as BalanceCallback
from .llm.adapters.callbacks import FisherBalanceCallback as FisherBalanceCallback
from .llm.adapters.callbacks import RefactorCallback as RefactorCallback
from .llm.adapters.callbacks import RegularizeCallback as RegularizeCallback
from .llm.adapters.callbacks import RescaleCallback as RescaleCallback
from .llm.adapters.disk import balance_adapter as balance_adapter
from .llm.adapters.fisher_balancing import (
    fisher_balance_after_step as fisher_balance_after_step,
)
from .llm.adapters.formats.converting import convert_adapter as convert_adapter
from .llm.adapters.hooks import balance_after_step as balance_after_step
from .llm.adapters.operations.comparing import diff_adapters as diff_adapters
from .llm.adapters.operations.folding import fold_adapter as fold_adapter
from .llm.adapters.operations.merging import merge_adapters as merge_adapters
from .llm.adapters.operations.resizing import resize_adapter as resize_adapter
from .llm.adapters.optimizers import (
    create_balora_optimizer as create_balora_optimizer,
)
from .llm.adapters.optimizers import (
    create_fisher_balora_optimizer as create_fisher_balora_optimizer,
)
from .llm.adapters.optimizers import (
    create_ilora_optimizer as create_ilora_optimizer,
)
from .llm.adapters.optimizers import (
    create_pilora_optimizer as create_pilora_optimizer,
)
from .llm.adapters.optimizers import (
    create_reflora_optimizer as create_reflora_optimizer,
)
from .llm.adapters.refactoring import refactor_before_step as refactor_before_step
from .llm.adapters.regularizing import regularize_after_step as regularize_after_step
from .llm.adapters.rescaling import rescale_after_step as rescale_after_step
