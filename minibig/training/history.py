"""What a training run recorded, and its picture."""


class History:
    """`steps` and `evaluations`: a dict of numbers each, in order.

    A step has "step", "loss", "lr", "grad_norm" and "seconds" (training time so far),
    an evaluation "step" and its metrics. Steps are counted from 1.
    """

    def __init__(self, steps=(), evaluations=()):
        self.steps = list(steps)
        self.evaluations = list(evaluations)

    def column(self, name):
        """(steps, values) of one recorded quantity; an evaluation's come first."""
        rows = [row for row in self.evaluations if name in row]
        rows = rows or [row for row in self.steps if name in row]
        if not rows:
            raise KeyError(f"no {name!r} was recorded; there is {self.names()}")
        return [row["step"] for row in rows], [row[name] for row in rows]

    def names(self):
        """What was recorded, beside the step itself."""
        names = {name for row in (*self.evaluations, *self.steps) for name in row}
        return sorted(names - {"step"})

    @property
    def loss(self):
        """The training loss of every step."""
        return [row["loss"] for row in self.steps]

    def plot(self, *, title="", floor=None):
        """A matplotlib figure: training loss, smoothed, and the evaluations' loss.

        `floor` draws the best loss that is possible, where that is known.
        """
        from ..viz import loss_curves

        return loss_curves(self, title=title, floor=floor)

    def __len__(self):
        return len(self.steps)

    def __repr__(self):
        if not self.steps:
            return "History(no steps)"
        last = self.steps[-1]
        text = f"History({last['step']} steps, loss {last['loss']:.4f}"
        if self.evaluations:
            shown = [
                f"{name} {value:.4f}"
                for name, value in self.evaluations[-1].items()
                if name != "step"
            ]
            text += f", last evaluation: {', '.join(shown)}"
        return text + ")"
