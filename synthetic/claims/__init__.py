"""The claims about dynamics, by id: one file per topic.

Every claim states its rule before it looks: which interval or error decides.
"""

from lorakappa.conditioning.verification import registry
from lorakappa.synthetic.claims import adam_frames, balora, critics, data_gauges, gauges, ilora, ilora_ablations, rates

CLAIMS = registry(
    rates.CLAIMS,
    balora.CLAIMS,
    gauges.CLAIMS,
    data_gauges.CLAIMS,
    adam_frames.CLAIMS,
    critics.CLAIMS,
    ilora.CLAIMS,
    ilora_ablations.CLAIMS,
)
