from . import nn as nn
from . import optim as optim
from .arrays.device import Place as Place
from .arrays.device import find_place as find_place
from .arrays.device import to_numpy as to_numpy
from .errors import DataFormatError as DataFormatError
from .errors import DeviceUnavailableError as DeviceUnavailableError
from .errors import DownloadError as DownloadError
from .errors import InputError as InputError
from .errors import NonFiniteError as NonFiniteError
from .errors import XpnnError as XpnnError
from .training import Accuracy as Accuracy
from .training import History as History
from .training import JSONLLogger as JSONLLogger
from .training import Trainer as Trainer
from .training import load_model as load_model
from .training import save_model as save_model

__version__: str
