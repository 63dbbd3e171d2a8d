"""A batch of windows to what the network is trained on: the order in which distortions are done.

Geometry, colour, normalisation, noise, erasing. Crop and mirror are done before, mixing after, since both need more than the windows.
A sample's pixels depend on its own place only, never on the rest of the batch, on how many there are, or on threads.
"""

from torch import Tensor

from provenet.data.colour import change_colour
from provenet.data.distortion import Distortion
from provenet.data.erasing import add_noise, erase
from provenet.data.geometry import bend
from provenet.data.random import Places
from provenet.preprocessing import Preprocessing


def distort(windows: Tensor, distortion: Distortion, places: Places, preprocessing: Preprocessing) -> Tensor:
    """uint8 windows [B, S, S, C], cropped and mirrored -> float32 images [B, C, S, S] (channels-last in memory), normalised."""
    if distortion.bends:
        windows = bend(windows, distortion, places)
    if distortion.recolours(windows.shape[3]):
        images = change_colour(windows, distortion, places, preprocessing)
    else:
        images = preprocessing.normalise(windows)
    if distortion.noise:
        images = add_noise(images, distortion, places, preprocessing)
    if distortion.erase:
        images = erase(images, distortion, places)
    return images
