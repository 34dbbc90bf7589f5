"""What is a machine doing at every moment? Three sensors, and a state for each step: tagging.

python examples/machine_states.py

96.2% of the steps of new machines are right, after 9 seconds on two CPU cores; 38.7% are of the most frequent state.
"""

import csv
import tempfile
from pathlib import Path

import numpy as np

import jaxrnn

STATES = ("idle", "running", "worn")


def main(epochs: int = 30) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "machines.csv"
        write_machines(path)
        columns = {"id_column": "machine", "time_column": "minute", "label_column": "state"}
        machines = jaxrnn.read(path, **columns, each_step_has_a_label=True)
    print(machines)

    # The first machines train, the last ones are unknown to the model.
    training, test = machines.take(np.arange(60)), machines.take(np.arange(60, 80))
    model = jaxrnn.fit(training, task="tag", hidden_size=32, epochs=epochs)

    evaluation = model.evaluate(test)
    print(f"accuracy of a step: {evaluation['accuracy']:.3f}")
    print(f"always the most frequent state: {evaluation.baselines['most_frequent']['accuracy']:.3f}")

    machine = test[0]
    print("machine", machine.rows["ids"].texts()[0])
    print("actual   ", draw(machine.steps["labels"].texts()))
    print("predicted", draw(model.predict(machine)[0]))


def write_machines(path: Path) -> None:
    """Writes the file: a line for each minute of 80 machines of 40 to 100 minutes."""
    generator = np.random.default_rng(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["machine", "minute", "load", "heat", "noise", "state"])
        for machine in range(80):
            state, heat = 0, 20.0
            for minute in range(generator.integers(40, 101)):
                if generator.random() < 0.08:
                    state = int(generator.integers(0, 3))
                load = (0.0, 1.0, 0.9)[state] + 0.2 * generator.normal()
                heat += 0.1 * (20 + 40 * max(load, 0) - heat) + generator.normal()
                noise = (0.5, 1.0, 1.6)[state] + 0.5 * generator.normal()
                sensors = [f"{value:.2f}" for value in (load, heat, noise)]
                writer.writerow([machine, minute, *sensors, STATES[state]])


def draw(states: list[str]) -> str:
    """Writes the first letter of each state."""
    return "".join(state[0] for state in states)


if __name__ == "__main__":
    main()
