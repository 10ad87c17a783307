"""The claims about dynamics, by id: one file per topic.

Every claim states its rule before it looks: which interval or error decides.
"""

from lorakappa.conditioning.verification import registry
from lorakappa.synthetic.claims import record

CLAIMS = registry(*record.GROUPS, record.CLAIMS)
