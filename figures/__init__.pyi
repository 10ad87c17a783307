from .catalogue import FIGURES as FIGURES
from .catalogue import FORMATS as FORMATS
from .catalogue import Kind as Kind
from .drawing import draw as draw
from .drawing import draw_all as draw_all
from .drawing import draw_file as draw_file
from .drawing import draw_saved as draw_saved
from .drawing import names_for as names_for
