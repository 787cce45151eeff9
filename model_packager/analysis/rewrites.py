"""What a convolution would cost in another form: a ``Convolution`` goes in, ``Form``s that give an output of
the same shape come out. They are other networks, to be trained anew: none computes what the layer computes
now.

Sources: grouped, Krizhevsky et al. 2012; depthwise separable, Howard et al. 2017, section 3.1; two 3 x 3 for
one 5 x 5, Simonyan and Zisserman 2015, section 2.3; 1 x n and n x 1, Szegedy et al. 2016, section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from model_packager.analysis.geometry import Convolution

GROUPS = 2  # as in AlexNet


@dataclass(frozen=True)
class Form:
    """One way to make a layer. ``additions`` are those of the products of each sum to one another, in all
    parts; the count of "multiplications and additions of the pointwise part" in lectures is ``macs`` and the
    last part's."""

    name: str
    parts: tuple[Convolution, ...]

    @property
    def weights(self) -> int:
        return sum(part.weights for part in self.parts)

    @property
    def macs(self) -> int:
        return sum(part.macs for part in self.parts)

    @property
    def additions(self) -> int:
        return sum(part.additions for part in self.parts)


def forms_of(layer: Convolution) -> list[Form]:
    """The standard form first, then those that the layer's shape allows: grouped, depthwise separable,
    stacked 3 x 3, and 1 x n with n x 1. What lies between the parts of the last two has as many channels as
    the input or the output, whichever has fewer."""
    standard = replace(layer, groups=1)
    forms = [Form("standard", (standard,))]
    if layer.inputs % GROUPS == layer.outputs % GROUPS == 0 and layer.positions > 1:
        forms.append(Form(f"grouped by {GROUPS}", (replace(layer, groups=GROUPS),)))
    if layer.groups not in (1, GROUPS, layer.inputs):
        forms.append(Form(f"grouped by {layer.groups}", (layer,)))
    kernel = (layer.kernel_h, layer.kernel_w)
    if kernel == (1, 1):
        return forms
    forms.append(Form("depthwise separable", _separable(layer)))
    if layer.groups == layer.inputs == layer.outputs:
        forms.append(Form("depthwise", (layer,)))
    if min(kernel) > 1:
        if kernel[0] == kernel[1] >= 5 and kernel[0] % 2 and layer.stride_h == layer.stride_w == 1:
            forms.append(Form(f"{kernel[0] // 2} of 3x3", _stacked(standard)))
        forms.append(Form(f"1x{kernel[1]}, {kernel[0]}x1", _factorised(standard)))
    return forms


def _separable(layer: Convolution) -> tuple[Convolution, Convolution]:
    depthwise = replace(layer, groups=layer.inputs, outputs=layer.inputs)
    size = (layer.output_h, layer.output_w)
    return depthwise, Convolution(*size, layer.inputs, *size, layer.outputs)


def _factorised(layer: Convolution) -> tuple[Convolution, Convolution]:
    inner = (layer.input_h, layer.output_w, min(layer.inputs, layer.outputs))
    across = Convolution(
        *(layer.input_h, layer.input_w, layer.inputs),
        *inner,
        *(1, layer.kernel_w, 1, 1, layer.stride_w),
    )
    outer = (layer.output_h, layer.output_w, layer.outputs)
    return across, Convolution(*inner, *outer, layer.kernel_h, 1, 1, layer.stride_h, 1)


def _stacked(layer: Convolution) -> tuple[Convolution, ...]:
    """As many 3 x 3 as reach as far; without padding the image shrinks on its way from one to the next."""
    count = layer.kernel_h // 2
    lost_h, lost_w = layer.input_h - layer.output_h, layer.input_w - layer.output_w
    sizes = [
        (layer.input_h - lost_h * done // count, layer.input_w - lost_w * done // count)
        for done in range(count + 1)
    ]
    channels = [layer.inputs, *[min(layer.inputs, layer.outputs)] * (count - 1), layer.outputs]
    return tuple(
        Convolution(*sizes[n], channels[n], *sizes[n + 1], channels[n + 1], 3, 3) for n in range(count)
    )
