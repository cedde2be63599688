// A browser starts no worker for a page that was opened as a file. There the search runs in a
// hidden frame with the interface of a worker; the search itself looks for the name IFrameWorker.
if (location.protocol === "file:") {
  const inFrame = () => {
    window.postMessage = (data) => parent.postMessage(data, "*");
    window.importScripts = async (...addresses) => {
      for (const address of addresses) {
        await new Promise((done, failed) => {
          const script = document.createElement("script");
          Object.assign(script, { src: address, onload: done, onerror: failed });
          document.head.append(script);
        });
      }
    };
  };
  window.IFrameWorker = class extends EventTarget {
    constructor(address) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.srcdoc =
        `<script>(${inFrame})()</script><script src="${address}"></script>`;
      this.loaded = new Promise((done) => { frame.onload = () => done(frame.contentWindow); });
      window.addEventListener("message", ({ source, data }) => {
        if (source === frame.contentWindow) {
          this.dispatchEvent(new MessageEvent("message", { data }));
        }
      });
      document.body.append(frame);
    }

    postMessage(data) {
      this.loaded.then((inside) => inside.dispatchEvent(new MessageEvent("message", { data })));
    }
  };
  window.Worker = window.IFrameWorker;
}
