from .engine import simulate as simulate
from .problems import Settings as Settings
from .results import Result as Result
from .results import save as save
