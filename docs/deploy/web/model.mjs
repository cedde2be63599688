// SPDX-License-Identifier: Apache-2.0
// Predict with an ONNX export in a browser: needs onnxruntime-web in the folder ort/ beside it.
//
//     const model = await Model.load(await (await fetch("inference.onnx")).arrayBuffer());
//     const scores = await model.scores(file);  // a File or Blob -> number per class, 0 to 1

import * as ort from "./ort/ort.wasm.min.mjs";

ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
ort.env.wasm.numThreads = 1; // more need the headers of a cross-origin isolated page
ort.env.logLevel = "error";

export class Model {
  /** Open the content of an ONNX file: an ArrayBuffer. */
  static async load(content) {
    const model = new Model();
    const texts = metadata(new Uint8Array(content));
    const keys = ["image_size", "scale", "mean", "std", "label_names", "thresholds"];
    const missing = keys.filter((key) => !(key in texts));
    if (missing.length) throw new Error(`the file lacks ${missing.join(", ")}: export it again`);
    const known = Object.fromEntries(keys.map((key) => [key, JSON.parse(texts[key])]));
    const side = known.image_size;
    [model.width, model.height] = Array.isArray(side) ? side : [side, side];
    model.names = known.label_names;
    model.thresholds = known.thresholds;
    model.known = known;
    model.session = await ort.InferenceSession.create(content, { executionProviders: ["wasm"] });
    return model;
  }

  /** Scores of one photograph, a File or Blob: Float32Array [C], 0 to 1. */
  async scores(photo) {
    const { width, height } = this;
    const pixels = resize(await decode(photo), width, height);
    const { scale, mean, std } = this.known;
    const area = width * height;
    const input = new Float32Array(3 * area);
    for (let i = 0; i < area; i++) {
      for (let c = 0; c < 3; c++) {
        input[c * area + i] = (pixels[4 * i + c] * scale - mean[c]) / std[c];
      }
    }
    const tensor = new ort.Tensor("float32", input, [1, 3, height, width]);
    const [name] = this.session.inputNames;
    const found = await this.session.run({ [name]: tensor });
    return found[this.session.outputNames[0]].data;
  }

  /** Names and scores that reach the threshold of their class, by falling score. */
  labels(scores) {
    return [...scores.keys()]
      .filter((i) => scores[i] >= Math.fround(this.thresholds[i]))
      .sort((a, b) => scores[b] - scores[a])
      .map((i) => ({ name: this.names[i], score: scores[i] }));
  }
}

/** A photograph as the browser reads it, upright: width, height, data (RGBA). */
async function decode(photo) {
  const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(photo, options);
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const image = { width, height, data: isOpaque(data) ? data : readBehind(bitmap) };
  bitmap.close();
  return image;
}

function isOpaque(data) {
  for (let i = 3; i < data.length; i += 4) if (data[i] < 255) return false;
  return true;
}

/** RGBA with the colours behind transparent parts, which training sees, and a 2D canvas loses. */
function readBehind(bitmap) {
  const { width, height } = bitmap;
  const gl = new OffscreenCanvas(1, 1).getContext("webgl");
  if (!gl || Math.max(width, height) > gl.getParameter(gl.MAX_TEXTURE_SIZE)) {
    throw new Error("transparent parts cannot be read here: save it without transparency");
  }
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
  gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  const texture = gl.getParameter(gl.TEXTURE_BINDING_2D);
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
  const data = new Uint8Array(4 * width * height);
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, data);
  return data;
}

/** Resize RGBA, bilinear, to the same pixels as Pillow 13. */
export function resize({ data, width: columns, height: rows }, width, height) {
  const across = (source, lines) =>
    weigh(source, columns, width, { stride: 4, lines, source: 4 * columns, target: 4 * width });
  const down = (source, wide) =>
    weigh(source, rows, height, { stride: 4 * wide, lines: wide, source: 4, target: 4 });
  // Pillow begins with the side that saves work.
  const isDownFirst = rows - height > Math.max(0, 2 * (columns - width));
  return isDownFirst ? across(down(data, columns), height) : down(across(data, rows), width);
}

/**
 * One side of an image, `from` pixels `line.stride` apart, becomes `to` pixels. Each is the mean of
 * all that lie below it, weighted by a triangle; drawImage of a canvas leaves some of them out.
 * line: how many lines there are, and how far apart they are in source and target.
 */
function weigh(source, from, to, line) {
  const target = new Uint8Array(4 * to * line.lines);
  const { stride } = line;
  const step = from / to;
  const reach = Math.max(step, 1);
  for (let i = 0; i < to; i++) {
    const centre = (i + 0.5) * step;
    const start = Math.max(Math.trunc(centre - reach + 0.5), 0);
    const stop = Math.min(Math.trunc(centre + reach + 0.5), from);
    const parts = [];
    for (let j = start; j < stop; j++) {
      parts.push(Math.max(1 - Math.abs(j + 0.5 - centre) / reach, 0));
    }
    const total = parts.reduce((sum, part) => sum + part, 0);
    // Whole numbers, as in Pillow: their sums are exact, and round in the same way.
    const weights = parts.map((part) => Math.floor((part / total) * (1 << 22) + 0.5));
    for (let n = 0; n < line.lines; n++) {
      for (let c = 0; c < 3; c++) {
        let sum = 1 << 21;
        let at = n * line.source + start * stride + c;
        for (const weight of weights) {
          sum += source[at] * weight;
          at += stride;
        }
        target[n * line.target + i * stride + c] = Math.min(sum >> 22, 255);
      }
    }
  }
  return target;
}

/** The texts of an ONNX file, which onnxruntime-web does not show: field 14 of its one message. */
function metadata(content) {
  const text = new TextDecoder();
  const texts = {};
  for (const [number, pair] of fields(content)) {
    if (number !== 14) continue;
    const [key, value] = [...fields(pair)].map(([, bytes]) => text.decode(bytes));
    texts[key] = value;
  }
  return texts;
}

/** Number and content of each field of a protobuf message. */
function* fields(message) {
  let position = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = message[position++];
      value += (byte & 127) * factor;
      if (!(byte > 127)) return value;
    }
  };
  while (position < message.length) {
    const tag = varint();
    const kind = tag & 7;
    const length = kind === 0 || kind === 2 ? varint() : { 1: 8, 5: 4 }[kind];
    const end = position + (kind === 0 ? 0 : length);
    if (!(end <= message.length)) throw new Error("not an ONNX file, or not a whole one");
    yield [Math.floor(tag / 8), message.subarray(position, end)];
    position = end;
  }
}
