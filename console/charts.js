/**
 * Charts as SVG. They take their colours from the variables of the style sheet, and say what they
 * show to a screen reader.
 */
import { html } from './vendor/preact-htm.js';

/**
 * Deliveries of each hour or day as stacked bars.
 * @param {{ bars: { success: number, failed: number, title: string }[], label: string, class?: string }} props
 */
export function Bars({ bars, label, class: kind = 'spark' }) {
  const most = Math.max(1, ...bars.map((bar) => bar.success + bar.failed));
  const width = 100 / Math.max(1, bars.length);
  return html`<svg class=${kind} role="img" aria-label=${label} viewBox="0 0 100 100" preserveAspectRatio="none">
    ${bars.map((bar, index) => {
      const failed = (bar.failed / most) * 100;
      const success = (bar.success / most) * 100;
      const x = index * width + width * 0.1;
      return html`<g key=${index}>
        <title>${bar.title}</title>
        <rect x=${index * width} y="0" width=${width} height="100" fill="transparent" />
        <rect class="success" x=${x} y=${100 - success} width=${width * 0.8} height=${success} />
        <rect class="failed" x=${x} y=${100 - success - failed} width=${width * 0.8} height=${failed} />
      </g>`;
    })}
  </svg>`;
}

/**
 * Lines over time. A gap stands where a value is null.
 * @param {{ lines: { name: string, values: (number | null)[] }[], label: string }} props
 */
export function Lines({ lines, label }) {
  const most = Math.max(1, ...lines.flatMap((line) => line.values.map((value) => value ?? 0)));
  return html`<svg class="chart" role="img" aria-label=${label} viewBox="0 0 100 100" preserveAspectRatio="none">
    ${lines.map((line, index) => {
      const last = Math.max(1, line.values.length - 1);
      let pen = 'M';
      const path = line.values.map((value, at) => {
        if (value === null) {
          pen = 'M';
          return '';
        }
        const point = `${pen}${((at / last) * 100).toFixed(2)} ${(98 - (value / most) * 94).toFixed(2)}`;
        // A lone point is drawn as a short line.
        const lone = pen === 'M' && (line.values[at + 1] ?? null) === null;
        pen = 'L';
        return lone ? `${point}h0.5` : point;
      });
      return html`<path key=${line.name} class=${`line line-${index}`} d=${path.join('')}><title>${line.name}</title></path>`;
    })}
  </svg>`;
}
