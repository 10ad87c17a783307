from .audit import LayerAudit as LayerAudit
from .audit import audit_adapter as audit_adapter
from .audit import audit_pair as audit_pair
from .balancing import BalanceReport as BalanceReport
from .balancing import balance_model as balance_model
from .callbacks import BalanceCallback as BalanceCallback
from .callbacks import FisherBalanceCallback as FisherBalanceCallback
from .callbacks import RefactorCallback as RefactorCallback
from .callbacks import RegularizeCallback as RegularizeCallback
from .callbacks import RescaleCallback as RescaleCallback
from .data_balancing import balance_to_data as balance_to_data
from .disk import balance_adapter as balance_adapter
from .factors import CannotBalanceError as CannotBalanceError
from .fisher_balancing import (
    fisher_balance_after_step as fisher_balance_after_step,
)
from .formats.converting import convert_adapter as convert_adapter
from .formats.reading import read_adapter as read_adapter
from .handles import GradientHandle as GradientHandle
from .handles import StepHandle as StepHandle
from .handles import step_handles as step_handles
from .hooks import (
    balance_after_step as balance_after_step,
)
from .hooks import (
    map_after_step as map_after_step,
)
from .operations.comparing import AdapterDifference as AdapterDifference
from .operations.comparing import diff_adapters as diff_adapters
from .operations.folding import fold_adapter as fold_adapter
from .operations.merging import merge_adapters as merge_adapters
from .operations.resizing import resize_adapter as resize_adapter
from .optimizers import (
    create_balora_optimizer as create_balora_optimizer,
)
from .optimizers import (
    create_fisher_balora_optimizer as create_fisher_balora_optimizer,
)
from .optimizers import (
    create_ilora_optimizer as create_ilora_optimizer,
)
from .optimizers import (
    create_pilora_optimizer as create_pilora_optimizer,
)
from .optimizers import (
    create_reflora_optimizer as create_reflora_optimizer,
)
from .pairs import LoraPair as LoraPair
from .pairs import lora_pairs as lora_pairs
from .refactoring import refactor_before_step as refactor_before_step
from .regularizing import regularize_after_step as regularize_after_step
from .rescaling import rescale_after_step as rescale_after_step
