"""Train a network on handwritten digits in ten lines. Run: python examples/quickstart.py"""

from xpnn import Trainer, nn, optim
from xpnn.data import load

digits = load("digits")
model = nn.Sequential(nn.Flatten(), nn.Scale(1 / 16), *nn.MLP(64, 10, (256, 128), dropout=0.3).layers)
trainer = Trainer(model, nn.CrossEntropyLoss(), optim.Adam(lr=1e-3), seed=0)
history = trainer.fit(digits.x_train, digits.y_train, epochs=60, batch_size=32)
print("training:", history.records[-1])
print("test:", trainer.evaluate(digits.x_test, digits.y_test))
print("predicted:", trainer.predict(digits.x_test[:10]).argmax(axis=1), "are:", digits.y_test[:10])
