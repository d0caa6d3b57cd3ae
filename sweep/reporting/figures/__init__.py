"""Pictures of a run, for screens and for print: readable by the colour-blind and in grey."""

from sweep.reporting.figures.curves import accuracy_curve
from sweep.reporting.figures.equivalence import equivalence_curve
from sweep.reporting.figures.heatmaps import heat_map
from sweep.reporting.figures.inline import Inline, inline
from sweep.reporting.figures.layers import layer_sensitivity
from sweep.reporting.figures.pictures import Picture, answer_pictures, pictures, save_figures
from sweep.reporting.figures.yields import yield_curve
from sweep.reporting.labels import parameter_labels

__all__ = [
    "Inline",
    "Picture",
    "accuracy_curve",
    "answer_pictures",
    "equivalence_curve",
    "heat_map",
    "inline",
    "layer_sensitivity",
    "parameter_labels",
    "pictures",
    "save_figures",
    "yield_curve",
]
