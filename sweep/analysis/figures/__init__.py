"""Pictures of a run, for screens and for print: readable by the colour-blind and in grey."""

from sweep.analysis.figures.answered import answer_pictures
from sweep.analysis.figures.categories import layer_sensitivity
from sweep.analysis.figures.curves import accuracy_curve
from sweep.analysis.figures.equivalence import equivalence_curve
from sweep.analysis.figures.heatmaps import heat_map
from sweep.analysis.figures.inline import Inline, inline
from sweep.analysis.figures.labels import parameter_labels
from sweep.analysis.figures.pictures import Picture, pictures
from sweep.analysis.figures.saving import save_figures
from sweep.analysis.figures.yields import yield_curve

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
