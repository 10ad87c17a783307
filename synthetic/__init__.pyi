from .engine import simulate as simulate
from .problems import ProblemSettings as ProblemSettings
from .results import Result as Result
from .results import save as save
