"use strict";
// The network of the run, computed in the page for a digit that is drawn by hand.
{
  const data = JSON.parse(document.getElementById("network").textContent);
  const field = document.getElementById("draw");
  const [height, width] = data.shape;

  // -- the network ------------------------------------------------------------------------------------------------

  const half = (h) => {
    const exponent = (h >> 10) & 31, fraction = h & 1023;
    const size = exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24;
    return h >> 15 ? -size : size;
  };
  const unpack = (text) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    if (data.bits === 32) return new Float32Array(bytes.buffer);
    return Float32Array.from(new Uint16Array(bytes.buffer), half);
  };
  const prepare = (layers) => {
    for (const layer of layers) {
      if (layer.layers) prepare(layer.layers);
      for (const name in layer.w) layer.w[name] = unpack(layer.w[name]);
    }
  };
  prepare(data.layers);

  // The error function to 1.5e-7: Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26.
  const erf = (x) => {
    const t = 1 / (1 + 0.3275911 * Math.abs(x));
    const sum = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    return Math.sign(x) * (1 - sum * Math.exp(-x * x));
  };
  const sigmoid = (x) => 1 / (1 + Math.exp(-x));
  const mean = (x) => x.reduce((sum, value) => sum + value, 0) / x.length;
  const scaled = (x, { weight, bias }) => x.map((v, i) => v * (weight ? weight[i] : 1) + (bias ? bias[i] : 0));
  const logSoftmax = (x) => {
    const most = Math.max(...x), sum = x.reduce((all, value) => all + Math.exp(value - most), 0);
    return x.map((value) => value - most - Math.log(sum));
  };
  const LAYERS = {
    Flatten: (x) => x,
    Scale: (x, { w }) => x.map((v) => v * w.factor[0]),
    Standardize: (x, { w }) => x.map((v, i) => (v - w.mean[i]) * w.scale[i]),
    SmoothClip: (x, { limit }) => x.map((v) => v / Math.sqrt(1 + (v / limit) ** 2)),
    Linear: (x, { w }) => {
      const outputs = w.weight.length / x.length;
      const y = w.bias ? Array.from(w.bias) : new Array(outputs).fill(0);
      for (let i = 0; i < x.length; i++) {
        if (x[i] !== 0) for (let j = 0; j < outputs; j++) y[j] += x[i] * w.weight[i * outputs + j];
      }
      return y;
    },
    ReLU: (x) => x.map((v) => Math.max(v, 0)),
    LeakyReLU: (x, l) => x.map((v) => (v < 0 ? l.negative_slope * v : v)),
    ELU: (x, { alpha }) => x.map((v) => (v > 0 ? v : alpha * Math.expm1(v))),
    SiLU: (x) => x.map((v) => v * sigmoid(v)),
    Sigmoid: (x) => x.map(sigmoid),
    Tanh: (x) => x.map(Math.tanh),
    Softplus: (x, { beta }) => x.map((v) => (Math.max(beta * v, 0) + Math.log1p(Math.exp(-Math.abs(beta * v)))) / beta),
    GELU: (x, { approximate }) =>
      x.map((v) =>
        approximate === "tanh"
          ? 0.5 * v * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3)))
          : 0.5 * v * (1 + erf(v * Math.SQRT1_2)),
      ),
    Softmax: (x) => logSoftmax(x).map(Math.exp),
    LogSoftmax: logSoftmax,
    LayerNorm: (x, { w, eps }) => {
      const middle = mean(x), centred = x.map((v) => v - middle);
      const deviation = Math.sqrt(mean(centred.map((v) => v * v)) + eps);
      return scaled(centred.map((v) => v / deviation), w);
    },
    RMSNorm: (x, { w, eps }) => {
      const size = Math.sqrt(mean(x.map((v) => v * v)) + eps);
      return scaled(x.map((v) => v / size), w);
    },
    BatchNorm1d: (x, { w, eps }) =>
      scaled(x.map((v, i) => (v - w.running_mean[i]) / Math.sqrt(w.running_var[i] + eps)), w),
    Residual: (x, { layers }) => {
      const y = through(layers, x);
      return x.map((v, i) => v + y[i]);
    },
  };
  const through = (layers, x) => layers.reduce((y, layer) => LAYERS[layer.type](y, layer), x);
  const answer = (pixels) => {
    const outputs = through(data.layers, pixels);
    return data.outputs === "logits" ? logSoftmax(outputs).map(Math.exp) : outputs;
  };

  // -- the picture ------------------------------------------------------------------------------------------------

  const FINE = 4; // a pixel is divided into so many parts, in both directions
  // Small images (8 × 8) are filled by the digit. In larger ones it is in a box of 20/28 of the side, and the centre of
  // its mass is that of the image, as in MNIST. The pens give digits as much ink as those of the training images have,
  // on average. All lengths are in parts of pixels.
  const small = height <= 12;
  const rows = height * FINE, columns = width * FINE;
  const pen = small ? 0.16 * rows : 0.09 * rows;
  const boxHeight = (small ? rows : (rows * 20) / 28) - pen, boxWidth = (small ? 0.9 * columns : (columns * 20) / 28) - pen;

  const ink = (strokes, left, top, scale, moveX, moveY) => {
    const fine = new Uint8Array(rows * columns), reach = pen / 2;
    for (const stroke of strokes) {
      stroke.forEach((end, i) => {
        const start = stroke[Math.max(i - 1, 0)];
        const [x0, y0, x1, y1] = [start[0], start[1], end[0], end[1]].map((v, k) =>
          k % 2 ? (v - top) * scale + moveY : (v - left) * scale + moveX,
        );
        const dx = x1 - x0, dy = y1 - y0, square = dx * dx + dy * dy;
        const inside = (low, high, most) => [Math.max(0, Math.floor(low - reach)), Math.min(most - 1, Math.ceil(high + reach))];
        const [r0, r1] = inside(Math.min(y0, y1), Math.max(y0, y1), rows);
        const [c0, c1] = inside(Math.min(x0, x1), Math.max(x0, x1), columns);
        for (let r = r0; r <= r1; r++) {
          for (let c = c0; c <= c1; c++) {
            const px = c + 0.5 - x0, py = r + 0.5 - y0;
            const along = square ? Math.min(1, Math.max(0, (px * dx + py * dy) / square)) : 0;
            if (Math.hypot(px - along * dx, py - along * dy) <= reach) fine[r * columns + c] = 1;
          }
        }
      });
    }
    return fine;
  };
  const pixelsOf = (strokes) => {
    const xs = strokes.flat().map((p) => p[0]), ys = strokes.flat().map((p) => p[1]);
    const left = Math.min(...xs), right = Math.max(...xs), top = Math.min(...ys), bottom = Math.max(...ys);
    const scale = Math.min(boxHeight / Math.max(bottom - top, 0.02), boxWidth / Math.max(right - left, 0.02));
    const centreX = columns / 2 - ((right - left) * scale) / 2, centreY = rows / 2 - ((bottom - top) * scale) / 2;
    let fine = ink(strokes, left, top, scale, centreX, centreY);
    if (!small) {
      let mass = 0, massX = 0, massY = 0;
      fine.forEach((v, i) => {
        mass += v;
        massX += v * ((i % columns) + 0.5);
        massY += v * (Math.floor(i / columns) + 0.5);
      });
      fine = ink(strokes, left, top, scale, centreX + columns / 2 - massX / mass, centreY + rows / 2 - massY / mass);
    }
    const pixels = new Array(height * width).fill(0);
    fine.forEach((v, i) => {
      const row = Math.floor(Math.floor(i / columns) / FINE), column = Math.floor((i % columns) / FINE);
      pixels[row * width + column] += v / (FINE * FINE);
    });
    return pixels.map((v) => data.largest * (data.inverted ? 1 - v : v));
  };

  // -- the field --------------------------------------------------------------------------------------------------

  const canvas = field.querySelector("canvas.pad"), seen = field.querySelector("canvas.seen");
  const pad = canvas.getContext("2d"), view = seen.getContext("2d");
  const text = field.querySelector("output"), bars = [...field.querySelectorAll(".bars i")];
  const shares = [...field.querySelectorAll(".bars span")];
  let strokes = [], drawing = false;
  const reset = () => {
    strokes = [];
    drawing = false;
    pad.clearRect(0, 0, canvas.width, canvas.height);
    view.clearRect(0, 0, seen.width, seen.height);
    text.textContent = "Draw a digit.";
    bars.forEach((bar) => (bar.style.width = "0"));
    shares.forEach((share) => (share.textContent = ""));
  };
  const update = () => {
    const pixels = pixelsOf(strokes), scores = answer(pixels), best = scores.indexOf(Math.max(...scores));
    const size = seen.width / width;
    pixels.forEach((v, i) => {
      const dark = Math.round(255 * (1 - v / data.largest));
      view.fillStyle = `rgb(${dark},${dark},${dark})`;
      view.fillRect((i % width) * size, Math.floor(i / width) * size, size, size);
    });
    text.textContent = `The network sees a ${data.classes[best]} (${(100 * scores[best]).toFixed(1)}%).`;
    scores.forEach((score, i) => {
      bars[i].style.width = `${Math.max(0, Math.min(1, score)) * 100}%`;
      shares[i].textContent = `${(100 * score).toFixed(1)}%`;
    });
  };
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  const extend = (event) => {
    const stroke = strokes[strokes.length - 1], point = place(event);
    const from = stroke.length ? stroke[stroke.length - 1] : point;
    stroke.push(point);
    pad.lineWidth = canvas.width / 14;
    pad.lineCap = pad.lineJoin = "round";
    pad.strokeStyle = "#000";
    pad.beginPath();
    pad.moveTo(from[0] * canvas.width, from[1] * canvas.height);
    pad.lineTo(point[0] * canvas.width, point[1] * canvas.height);
    pad.stroke();
    update();
  };
  canvas.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    drawing = true;
    strokes.push([]);
    try {
      canvas.setPointerCapture(event.pointerId);
    } catch {} // a pointer that has ended already
    extend(event);
  });
  canvas.addEventListener("pointermove", (event) => drawing && extend(event));
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (drawing = false));
  field.querySelector("button").addEventListener("click", reset);
  reset();
  document.getElementById("draw-needs").hidden = true;
  field.hidden = false;
  window.xpnn = { answer, pixelsOf };
}
