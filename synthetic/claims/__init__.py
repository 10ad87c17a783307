"""The claims about dynamics, by id: one file per topic.

Every claim states its rule before it looks: which interval or error decides.
"""

from lorakappa.conditioning.verification import registry
from lorakappa.synthetic.claims import balora, critics, gauges, ilora, ilora_ablations, rates

CLAIMS = registry(rates.CLAIMS, balora.CLAIMS, gauges.CLAIMS, critics.CLAIMS, ilora.CLAIMS, ilora_ablations.CLAIMS)
