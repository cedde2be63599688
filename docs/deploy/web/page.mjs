// SPDX-License-Identifier: Apache-2.0
// The controls of index.html.

import { Model } from "./model.mjs";

const [state, chooseModel, choosePhotos, results] = ["state", "model", "photos", "results"].map(
  (id) => document.getElementById(id),
);
let model = null;

/** Load a model, and give its labels to the photographs that are chosen already. */
async function open(name, read) {
  lock(true);
  model = null;
  results.textContent = "";
  state.textContent = `loading ${name}`;
  try {
    model = await Model.load(await read());
    state.textContent = `${name}: ${model.names.length} classes`;
  } catch (error) {
    state.textContent = `${name}: ${error.message}`;
  }
  await showAll();
}

async function showAll() {
  lock(true);
  results.textContent = "";
  if (model) for (const photo of [...choosePhotos.files]) await show(photo);
  lock(false);
}

function lock(isBusy) {
  results.ariaBusy = chooseModel.disabled = isBusy;
  choosePhotos.disabled = isBusy || !model;
}

async function show(photo) {
  const figure = add(results, "figure");
  const caption = add(figure, "figcaption", photo.name);
  try {
    const scores = await model.scores(photo);
    const image = figure.insertBefore(new Image(), caption);
    image.src = URL.createObjectURL(photo);
    image.alt = "";
    figure.dataset.scores = JSON.stringify([...scores]);
    const list = add(caption, "ul");
    for (const { name, score } of model.labels(scores)) {
      add(list, "li", `${name} ${score.toFixed(3)}`);
    }
  } catch (error) {
    add(caption, "p", `no labels: ${error.message}`).setAttribute("role", "alert");
  }
}

function add(parent, tag, text = "") {
  const element = parent.appendChild(document.createElement(tag));
  element.textContent = text;
  return element;
}

chooseModel.onchange = () => {
  const [file] = chooseModel.files;
  if (file) open(file.name, () => file.arrayBuffer());
};
choosePhotos.onchange = showAll;

await open("inference.onnx", async () => {
  const answer = await fetch("inference.onnx");
  if (!answer.ok) throw new Error("not beside this page: choose a file");
  return answer.arrayBuffer();
});
