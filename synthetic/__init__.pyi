from .engine import simulate as simulate
from .results import Result as Result
from .results import save as save
from .settings import ProblemSettings as ProblemSettings
