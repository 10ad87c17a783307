from .adapters.audit import LayerAudit as LayerAudit
from .adapters.audit import audit_adapter as audit_adapter
from .adapters.audit import audit_pair as audit_pair
from .adapters.balancing import BalanceReport as BalanceReport
from .adapters.balancing import balance_model as balance_model
from .adapters.callbacks import BalanceCallback as BalanceCallback
from .adapters.callbacks import FisherBalanceCallback as FisherBalanceCallback
from .adapters.callbacks import RefactorCallback as RefactorCallback
from .adapters.callbacks import RegularizeCallback as RegularizeCallback
from .adapters.callbacks import RescaleCallback as RescaleCallback
from .adapters.data_balancing import balance_to_data as balance_to_data
from .adapters.disk import balance_adapter as balance_adapter
from .adapters.factors import CannotBalanceError as CannotBalanceError
from .adapters.fisher_balancing import (
    fisher_balance_after_step as fisher_balance_after_step,
)
from .adapters.formats.converting import convert_adapter as convert_adapter
from .adapters.formats.reading import read_adapter as read_adapter
from .adapters.handles import GradientHandle as GradientHandle
from .adapters.handles import StepHandle as StepHandle
from .adapters.handles import step_handles as step_handles
from .adapters.hooks import (
    balance_after_step as balance_after_step,
)
from .adapters.hooks import (
    map_after_step as map_after_step,
)
from .adapters.operations.comparing import AdapterDifference as AdapterDifference
from .adapters.operations.comparing import diff_adapters as diff_adapters
from .adapters.operations.folding import fold_adapter as fold_adapter
from .adapters.operations.merging import merge_adapters as merge_adapters
from .adapters.operations.resizing import resize_adapter as resize_adapter
from .adapters.optimizers import (
    create_balora_optimizer as create_balora_optimizer,
)
from .adapters.optimizers import (
    create_fisher_balora_optimizer as create_fisher_balora_optimizer,
)
from .adapters.optimizers import (
    create_ilora_optimizer as create_ilora_optimizer,
)
from .adapters.optimizers import (
    create_pilora_optimizer as create_pilora_optimizer,
)
from .adapters.optimizers import (
    create_reflora_optimizer as create_reflora_optimizer,
)
from .adapters.pairs import LoraPair as LoraPair
from .adapters.pairs import lora_pairs as lora_pairs
from .adapters.refactoring import refactor_before_step as refactor_before_step
from .adapters.regularizing import regularize_after_step as regularize_after_step
from .adapters.rescaling import rescale_after_step as rescale_after_step
