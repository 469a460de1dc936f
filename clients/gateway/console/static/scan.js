// The field that a scanner types into, and the camera where the browser reads codes itself (Shape Detection API).
//
// Without this the page is a plain form: a scanner types the code and Enter into the focused field.

const field = /** @type {HTMLInputElement} */ (document.getElementById("scanned"));
const form = /** @type {HTMLFormElement} */ (document.getElementById("scan-form"));
const button = /** @type {HTMLButtonElement} */ (document.getElementById("camera"));
const view = /** @type {HTMLVideoElement} */ (document.getElementById("view"));
const says = /** @type {HTMLElement} */ (document.getElementById("camera-says"));

// A scanner types wherever the focus is: what begins elsewhere on the page belongs into the field
document.addEventListener("keydown", (event) => {
  const at = /** @type {Element} */ (event.target);
  if (event.key.length === 1 && !event.ctrlKey && !event.metaKey && !event.altKey && !at.closest("input")) field.focus();
});

const Detector = /** @type {any} */ (globalThis).BarcodeDetector;
if (Detector && navigator.mediaDevices?.getUserMedia) {
  const kinds = await Detector.getSupportedFormats().catch(() => []);
  button.hidden = !kinds.includes("qr_code");
}

button.addEventListener("click", async () => {
  button.disabled = true;
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    addEventListener("pagehide", () => stream.getTracks().forEach((track) => track.stop()));
    view.srcObject = stream;
    view.hidden = false;
    await view.play();
    says.textContent = "Hold the phone's code in front of the camera.";
    const detector = new Detector({ formats: ["qr_code"] });
    for (let found = []; !found.length; ) {
      await new Promise((next) => requestAnimationFrame(next));
      found = await detector.detect(view);
      if (found.length) field.value = found[0].rawValue;
    }
    form.requestSubmit();
  } catch {
    says.textContent = "The camera cannot be used. Use the scanner, or type the code.";
    button.disabled = false;
    view.hidden = true;
    field.focus();
  }
});
