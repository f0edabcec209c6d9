"""A custom training loop, with access to the gradients before each update. Run: python examples/own_loop.py"""

from xpnn import nn, optim
from xpnn.data import load
from xpnn.training import Accuracy, Data, TrainingStep, begin_epoch, epoch_batches, initial_state, read_logs

digits = load("digits")
data = Data(digits.x_train.reshape(-1, 64) / 16, digits.y_train)  # NumPy here; or CuPy, torch or JAX
model = nn.MLP(64, 10, (128,), dropout=0.2)
step = TrainingStep(model, nn.CrossEntropyLoss(), optim.Adam(lr=1e-3), metrics=[Accuracy()])

state = initial_state(step, like=data.x, seed=0)
for epoch in range(10):
    batches = list(epoch_batches(len(data.x), 32, like=data.x, epoch=epoch))
    state = begin_epoch(step, state, epoch, steps=len(batches))
    for rows in batches:
        grads, sums = step.gradients(state, data, rows)
        state = step.apply(state, grads, sums)  # both halves: step(state, data, rows), or jax.jit(step)
    print(epoch + 1, read_logs(step, state))
